"""FCOS on COCO at 1024 px with a plain ViT-B/16: boxes in one stage, from strides 8 to 128.

Head, losses and test are mmdet's (arXiv 1904.01355 with its later improvements, as in
fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco, without deformable
convolutions); images, optimizer and schedule are those of Mask R-CNN here. Ours and not measured:
no single-stage detector on a plain ViT with a simple pyramid is published with its recipe.
Expect: nothing is published for exactly this recipe.
Run: bash tools/dist_train.sh configs/det/fcos_vit-base-p16_8xb8-amp-lsj-100e_coco.py 8 \
    --weights ENCODER
"""

_base_ = "./mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py"

model = dict(
    _delete_=True,
    type="FCOS",
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone,
    neck=dict(
        type="milan_mm.SimpleFeaturePyramid",
        in_channels=_base_.embed_dims,
        out_channels=256,
        scale_factors=(2, 1, 0.5),  # strides 8 to 32
        num_extra_outs=2,  # 64 and 128, subsampled
    ),
    bbox_head=dict(
        type="FCOSHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        conv_bias=True,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=100,
    ),
)

# training reads masks nonetheless: after a crop the boxes are those of what is left of them
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmdet.Resize", scale=_base_.img_size, keep_ratio=True, backend="pillow"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True),
    dict(
        type="mmdet.PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric="bbox")
test_evaluator = dict(metric="bbox")
