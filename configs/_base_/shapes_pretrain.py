"""The demo's generated scenes for pretraining (`tools/make_shapes.py`), without labels."""

shapes_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # RGB, 0-255
img_size = 96

train_pipeline = [
    dict(type="milan_mm.SeedSample"),
    dict(type="milan_mm.LoadImage"),
    dict(
        type="RandomResizedCrop",
        scale=img_size,
        crop_ratio_range=(0.4, 1.0),
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        data_root="work_dirs/shapes/imagenet",
        data_prefix="train",
        with_label=False,
        pipeline=train_pipeline,
    ),
)
