"""Mask R-CNN on COCO at 1024 px with a plain ViT-B/16 and a simple feature pyramid.

The published plain-ViT detector recipe (arXiv 2203.16527, as detectron2's ViTDet project has it),
line by line; docs/transfer.md says where each number comes from and what differs.
Expect (published, not measured here): box/mask AP 51.6/45.9 for MAE (ViTDet project, standard
deviation over seeds about 0.1), 52.6/45.5 for MILAN (arXiv 2208.06049, recipe not stated).
Cost (ViTDet project, 64 A100, one image each): 10.9 GB per GPU and 0.314 s per iteration, hence
about 16 hours. A GPU with less than 80 GB takes the 8 images in parts: --batch-per-gpu 4.
Run: bash tools/dist_train.sh configs/det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py 8 \
    --weights ENCODER
"""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/runtime_dense.py",
]

img_size, patch_size, embed_dims = (1024, 1024), 16, 768
norm_cfg = dict(type="mmpretrain.LN2d", eps=1e-6)

model = dict(
    # every image becomes 1024x1024 with zeros after normalisation, in training and in tests
    data_preprocessor=dict(pad_size_divisor=img_size[0]),
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=patch_size,
        with_cls_token=False,
        final_norm=False,
        window_size=14,
        global_layers=(2, 5, 8, 11),
        rel_pos_grid=(img_size[0] // patch_size, img_size[1] // patch_size),
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type="milan_mm.SimpleFeaturePyramid",
        in_channels=embed_dims,
        out_channels=256,
    ),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type="Shared4Conv1FCBBoxHead", norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        # the best anchor of an object is positive however little they overlap: of the smallest
        # objects that the jitter makes, no anchor covers 0.3
        rpn=dict(assigner=dict(min_pos_iou=0.0)),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        rcnn=dict(assigner=dict(match_low_quality=False)),
    ),
)

train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        _scope_="mmdet",
        scale=img_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
        backend="pillow",  # smooths when it shrinks, as the source does; OpenCV does not
    ),
    dict(
        type="mmdet.RandomCrop",
        crop_type="absolute",
        crop_size=img_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # crops without objects are kept, as negatives: keep_empty=True would drop them
    dict(type="mmdet.FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmdet.Resize", scale=img_size, keep_ratio=True, backend="pillow"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="mmdet.PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

gpus, batch_per_gpu = 8, 8
total_batch = gpus * batch_per_gpu
max_iters = 184_375  # 100 epochs of 118,000 images at a total batch of 64
train_dataloader = dict(
    batch_size=batch_per_gpu,
    num_workers=8,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    batch_sampler=None,  # all images have one shape, so portraits need no batch of their own
    # images without objects are left out, small ones are not
    dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=True, min_size=0)),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type="milan_mm.CocoMetric")
test_evaluator = dict(type="milan_mm.CocoMetric")
auto_scale_lr = dict(base_batch_size=total_batch)

optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    # the heads can follow, see docs/performance.md; what it costs in AP is not known
    modules=["backbone", "neck"],
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    # the ViT's norms and positions are exempt; biases and the pyramid's norms are not
    paramwise_cfg=dict(
        layer_decay_rate=0.7, no_decay_types=["LayerNorm"], no_decay_names=["pos_embed"]
    ),
)
param_scheduler = [
    dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=250),
    dict(type="MultiStepLR", by_epoch=False, milestones=[163_889, 177_546], gamma=0.1),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=3, backend_args=atomic),
    visualization=dict(draw=False),
)
log_processor = dict(by_epoch=False)
