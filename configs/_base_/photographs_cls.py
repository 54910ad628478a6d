"""Photographs of 64 px with labels: the student's classes of tools/photographs.py.

Data: tools/photographs.py unpacks it from data/tiny-imagenet.tar.gz
"""

photographs_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # RGB, 0-255
img_size = 64
num_classes = 40
data_root = "work_dirs/photographs/tiny-imagenet/student"

train_pipeline = [
    dict(type="milan_mm.SeedSample"),
    dict(
        type="milan_mm.LoadRandomResizedCrop",
        scale=img_size,
        crop_ratio_range=(0.4, 1.0),
        flip_prob=0.5,
    ),
    dict(type="mmpretrain.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(
        type="mmpretrain.ResizeEdge",
        scale=img_size,
        edge="short",
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="mmpretrain.CenterCrop", crop_size=img_size),
    dict(type="mmpretrain.PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        _scope_="mmpretrain",
        data_root=data_root,
        data_prefix="train",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        _scope_="mmpretrain",
        data_root=data_root,
        data_prefix="val",
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="mmpretrain.Accuracy", topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
