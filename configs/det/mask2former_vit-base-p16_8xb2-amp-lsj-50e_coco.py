"""Mask2Former for the instances of COCO at 1024 px, on a plain ViT-B/16 with a simple pyramid.

Heads, losses, test, schedule and clipping are mmdet's, as in mask2former_r50_8xb2-lsj-50e_coco,
which are those of the authors (arXiv 2112.01527); pyramid, images and layer decay are those of
Mask R-CNN here. Ours and not measured.
Expect: nothing is published for exactly this recipe.
Run: bash tools/dist_train.sh configs/det/mask2former_vit-base-p16_8xb2-amp-lsj-50e_coco.py 8 \
    --weights ENCODER
"""

_base_ = [
    "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
    "../_base_/runtime_dense.py",
]

img_size, patch_size, embed_dims = (1024, 1024), 16, 768
# mmdet's, without `dropout=0.0`, whose name mmcv has deprecated
attention = dict(_delete_=True, embed_dims=256, num_heads=8, batch_first=True)

model = dict(
    # every image becomes 1024x1024 with zeros after normalisation, in training and in tests
    data_preprocessor=dict(
        _delete_=True,
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=img_size[0],
    ),
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
        type="milan_mm.SimpleFeaturePyramid",
        in_channels=embed_dims,
        out_channels=256,
        num_extra_outs=0,
    ),
    panoptic_head=dict(
        in_channels=[256] * 4,
        transformer_decoder=dict(
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention),
        ),
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

gpus, batch_per_gpu = 8, 2
total_batch = gpus * batch_per_gpu
max_iters = 368_750  # 50 epochs of 118,000 images at a total batch of 16
data_root = "data/coco/"
train_dataloader = dict(
    batch_size=batch_per_gpu,
    num_workers=8,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    batch_sampler=None,  # all images have one shape, so portraits need no batch of their own
    dataset=dict(
        _delete_=True,
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        # images without objects are left out, small ones are not
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(type="milan_mm.CocoMetric")
test_evaluator = dict(type="milan_mm.CocoMetric")
auto_scale_lr = dict(base_batch_size=total_batch)

optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    modules=["backbone", "neck"],
    optimizer=dict(fused=True),  # AdamW, 1e-4, weight decay 0.05
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    # all norms, positions and learnt queries are exempt, as in the source; the encoder learns at
    # rates that fall with depth, where the source multiplies that of its backbone by 0.1
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.7,
        no_decay_types=["LayerNorm", "LayerNorm2d", "GroupNorm", "Embedding"],
        no_decay_names=["pos_embed"],
    ),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, milestones=[327_778, 355_092], gamma=0.1)
]
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=max_iters, val_interval=5000)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(checkpoint=dict(backend_args=atomic), visualization=dict(draw=False))
