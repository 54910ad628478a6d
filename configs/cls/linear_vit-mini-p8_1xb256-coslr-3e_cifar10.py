"""Linear probe of the shipped mini encoders on CIFAR-10 photographs, enlarged to 48 px.

Expect and cost: docs/transfer.md. Data: tar -xzf data/cifar10.tar.gz -C work_dirs
Run: python tools/train.py cls/linear_vit-mini-p8_1xb256-coslr-3e_cifar10 \
    --weights milan_mm/assets/milan_mini_shapes.safetensors
"""

_base_ = "./linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k.py"

img_size, num_classes, embed_dims = 48, 10, 192
data_root = "work_dirs/cifar10"

model = dict(
    data_preprocessor=dict(num_classes=num_classes),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=embed_dims, num_layers=6, num_heads=6),
        img_size=img_size,
        patch_size=8,
    ),
    neck=dict(input_features=embed_dims),
    head=dict(in_channels=embed_dims, num_classes=num_classes),
)

train_pipeline = [
    dict(type="milan_mm.SeedSample"),
    dict(type="milan_mm.LoadImage"),
    dict(
        type="mmpretrain.RandomResizedCrop",
        scale=img_size,
        crop_ratio_range=(0.4, 1.0),
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="mmpretrain.RandomFlip", prob=0.5),
    dict(type="mmpretrain.PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmpretrain.ResizeEdge", scale=img_size, backend="pillow", interpolation="bicubic"),
    dict(type="mmpretrain.CenterCrop", crop_size=img_size),  # of own images that are not square
    dict(type="mmpretrain.PackInputs"),
]

gpus, batch_per_gpu, base_lr = 1, 256, 3.2
total_batch = gpus * batch_per_gpu
max_epochs, warmup_iters = 3, 20
train_dataloader = dict(
    batch_size=batch_per_gpu,
    num_workers=1,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(lr=base_lr * total_batch / 256))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-9, by_epoch=False, end=warmup_iters),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(logger=dict(interval=10))
