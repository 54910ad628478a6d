"""UperNet on the demo's scenes, small enough for two CPU cores.

Expect and cost: docs/demo.md. Data: python tools/make_shapes.py
Run: python tools/train.py seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "mmseg::_base_/models/upernet_mae.py",
    "mmseg::_base_/datasets/ade20k.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_160k.py",
]

img_size, embed_dims, channels = (96, 96), 192, 64
classes = ("sand", "grass", "water", "small", "large")
palette = [[226, 200, 140], [110, 160, 70], [90, 150, 190], [240, 150, 30], [220, 50, 50]]

model = dict(
    # tests pad photos of other shapes to whole patches
    data_preprocessor=dict(size=img_size, test_cfg=dict(size_divisor=8)),
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch=dict(embed_dims=embed_dims, num_layers=6, num_heads=6),
        img_size=img_size,
        patch_size=8,
        final_norm=False,
        out_indices=(2, 3, 4, 5),
    ),
    neck=dict(
        embed_dim=embed_dims,
        rescales=[2, 1, 0.5, 0.25],
        norm_cfg=dict(type="SyncBN", requires_grad=True),
    ),
    decode_head=dict(
        in_channels=[embed_dims] * 4,
        channels=channels,
        num_classes=len(classes),
    ),
    auxiliary_head=dict(
        in_channels=embed_dims, in_index=1, channels=channels, num_classes=len(classes)
    ),
)

dataset = dict(
    data_root="work_dirs/shapes/ade/ADEChallengeData2016",
    metainfo=dict(classes=classes, palette=palette),
    reduce_zero_label=True,
)
load_labels = dict(type="milan_mm.LoadLabels", num_classes=len(classes))
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    load_labels,
    dict(type="mmseg.Resize", scale=img_size, keep_ratio=True),  # the scenes have this size
    dict(type="mmseg.RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmseg.Resize", scale=img_size, keep_ratio=True),
    load_labels,  # after the resize: the ground truth keeps its size
    dict(type="mmseg.PackSegInputs"),
]

gpus, batch_per_gpu = 1, 8
total_batch = gpus * batch_per_gpu
max_iters = 250
train_dataloader = dict(
    batch_size=batch_per_gpu,
    num_workers=1,
    dataset=dict(type="BaseSegDataset", **dataset, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(type="BaseSegDataset", **dataset, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=total_batch)

optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",  # float32: most CPUs are slower in bfloat16
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    # as in the demo's detector, which needs the layer decay
    paramwise_cfg=dict(
        layer_decay_rate=0.8, no_decay_1d=True, no_decay_names=["pos_embed", "cls_token"]
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=40, end=max_iters, eta_min=0.0),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=max_iters, backend_args=atomic),
    visualization=dict(draw=False),
)
