"""ImageNet-1K with labels, the augmentation of finetuning, and the usual test at 224 px.

Source of the augmentation: MILAN's finetuning recipe, which is MAE's: RandAugment m9-mstd0.5-inc1
and random erasing of timm, here in mmpretrain's terms. BGR, as images are read.
"""

imagenet_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # RGB, 0-255
img_size = 224
num_classes = 1000

train_pipeline = [
    dict(type="milan_mm.SeedSample"),
    dict(type="milan_mm.LoadRandomResizedCrop", scale=img_size, flip_prob=0.5),
    dict(
        type="RandAugment",
        _scope_="mmpretrain",
        policies="timm_increasing",
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation="bicubic"),
    ),
    dict(
        type="mmpretrain.RandomErasing",  # noise of the statistics of normalised images, by pixel
        erase_prob=0.25,
        mode="rand",
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=imagenet_stats["mean"][::-1],
        fill_std=imagenet_stats["std"][::-1],
    ),
    dict(type="mmpretrain.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(
        type="mmpretrain.ResizeEdge",
        scale=img_size * 256 // 224 if img_size <= 224 else img_size,  # as in the authors' code
        edge="short",
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="mmpretrain.CenterCrop", crop_size=img_size),
    dict(type="mmpretrain.PackInputs"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        _scope_="mmpretrain",
        data_root="data/imagenet",
        data_prefix="train",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=12,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        _scope_="mmpretrain",
        data_root="data/imagenet",
        data_prefix="val",
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="mmpretrain.Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
