"""Mask R-CNN on the demo's scenes, small enough for two CPU cores.

Expect and cost: docs/demo.md. Data: python tools/make_shapes.py
Run: python tools/train.py det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes --weights ENCODER
"""

_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/runtime_dense.py",
]

img_size, embed_dims, channels = (96, 96), 192, 64
classes = ("small", "large")
strides = [4, 8, 16]
norm_cfg = dict(type="mmpretrain.LN2d", eps=1e-6)

model = dict(
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch=dict(embed_dims=embed_dims, num_layers=6, num_heads=6),
        img_size=img_size,
        patch_size=8,
        with_cls_token=False,
        final_norm=False,
        window_size=6,
        global_layers=(2, 5),
    ),
    neck=dict(
        _delete_=True,
        type="milan_mm.SimpleFeaturePyramid",
        in_channels=embed_dims,
        out_channels=channels,
        scale_factors=(2, 1, 0.5),
        num_extra_outs=0,
    ),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=strides),
    ),
    roi_head=dict(
        # objects of 16 to 40 pixels: the finest level up to 28 pixels
        bbox_roi_extractor=dict(out_channels=channels, featmap_strides=strides, finest_scale=14),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=len(classes)),
        mask_roi_extractor=dict(out_channels=channels, featmap_strides=strides, finest_scale=14),
        mask_head=dict(
            num_convs=2,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=len(classes),
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)

data_root = "work_dirs/shapes/coco/"
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="mmdet.Resize", scale=img_size, keep_ratio=True),  # the scenes have this size
    dict(type="mmdet.RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    # keeps the size and supplies the scale factor that the detector asks for
    dict(type="mmdet.Resize", scale=img_size, keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="mmdet.PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
gpus, batch_per_gpu = 1, 8
total_batch = gpus * batch_per_gpu
max_iters = 250
train_dataloader = dict(
    batch_size=batch_per_gpu,
    num_workers=1,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
        filter_cfg=dict(_delete_=True),
    ),
)
val_dataloader = dict(
    num_workers=1,
    batch_size=8,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="milan_mm.CocoMetric", ann_file=data_root + "annotations/instances_val2017.json"
)
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=total_batch)

optim_wrapper = dict(
    type="OptimWrapper",  # float32: most CPUs are slower in bfloat16
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    # without layer decay the mask loss hardly falls, from scratch neither
    paramwise_cfg=dict(
        layer_decay_rate=0.8, no_decay_types=["LayerNorm"], no_decay_names=["pos_embed"]
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=40),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=40, end=max_iters, eta_min=0.0),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=max_iters, backend_args=atomic),
    visualization=dict(draw=False),
)
log_processor = dict(by_epoch=False)
