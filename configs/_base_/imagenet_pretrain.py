"""ImageNet-1K images without labels, and the light augmentation of masked image modelling.

Source of the augmentation: MILAN's and MAE's pretraining recipe.
"""

imagenet_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # RGB, 0-255
img_size = 224

train_pipeline = [
    dict(type="milan_mm.SeedSample"),
    dict(
        type="milan_mm.LoadRandomResizedCrop",
        scale=img_size,
        crop_ratio_range=(0.2, 1.0),
        flip_prob=0.5,
    ),
    dict(type="mmpretrain.PackInputs"),
]
train_dataloader = dict(
    batch_size=512,
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
        with_label=False,
        pipeline=train_pipeline,
    ),
)

# nothing is tested: this is how mmpretrain's `FeatureExtractor` prepares an image
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(
        type="mmpretrain.ResizeEdge",
        scale=img_size * 256 // 224,
        edge="short",
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="mmpretrain.CenterCrop", crop_size=img_size),
    dict(type="mmpretrain.PackInputs"),
]
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        _scope_="mmpretrain",
        data_root="data/imagenet",
        data_prefix="train",
        with_label=False,
        pipeline=test_pipeline,
    ),
)
test_evaluator = []
test_cfg = {}
