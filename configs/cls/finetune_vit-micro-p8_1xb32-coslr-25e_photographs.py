"""Finetuning on few labels of small photographs, 40 classes. For tools/photographs.py.

The tool gives it 1 % or 10 % of the labels (`train_dataloader.dataset.ann_file`), and with 10 %
fewer epochs. Expect and cost: docs/results.md. Data: ../_base_/photographs_cls.py
Run: python tools/train.py cls/finetune_vit-micro-p8_1xb32-coslr-25e_photographs --weights ENCODER
"""

_base_ = ["../_base_/photographs_cls.py", "../_base_/default_runtime.py"]

embed_dims = 128

model = dict(
    type="ImageClassifier",
    _scope_="mmpretrain",
    data_preprocessor=dict(to_rgb=True, **_base_.photographs_stats),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch=dict(embed_dims=embed_dims, num_layers=4, num_heads=4),
        img_size=_base_.img_size,
        patch_size=8,
        final_norm=False,
        out_type="avg_featmap",
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=_base_.num_classes,
        in_channels=embed_dims,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02),
    ),
)

gpus, batch_per_gpu, base_lr = 1, 32, 8e-3
total_batch = gpus * batch_per_gpu
max_epochs, warmup_iters = 25, 20
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="AdamW", lr=base_lr * total_batch / 256, betas=(0.9, 0.999), weight_decay=0.05
    ),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.75, no_decay_1d=True, no_decay_names=["pos_embed", "cls_token"]
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = {}
test_cfg = {}
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_epochs))
