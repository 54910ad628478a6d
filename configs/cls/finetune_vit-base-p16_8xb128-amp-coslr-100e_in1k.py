"""Finetuning of ViT-B/16 on ImageNet-1K at 224 px, 100 epochs.

Expect (published, not measured here): top-1 85.4 for MILAN (arXiv 2208.06049), 85.3 in mmpretrain's
rerun. Cost: not published for MILAN; MAE's, equally long, took 7 h on 32 V100 (its repository).
Run: bash tools/dist_train.sh configs/cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py 8 \
    --weights ENCODER
"""

_base_ = ["../_base_/imagenet_cls.py", "../_base_/default_runtime.py"]

embed_dims = 768

model = dict(
    type="ImageClassifier",
    _scope_="mmpretrain",
    data_preprocessor=dict(num_classes=_base_.num_classes, to_rgb=True, **_base_.imagenet_stats),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch="base",
        img_size=_base_.img_size,
        patch_size=16,
        final_norm=False,
        out_type="avg_featmap",  # mean of the patches, then a fresh LayerNorm
        drop_path_rate=0.1,
    ),
    head=dict(
        type="LinearClsHead",
        num_classes=_base_.num_classes,
        in_channels=embed_dims,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02),
    ),
    # one of the two for each batch, with equal chances
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)

gpus, batch_per_gpu, base_lr, min_lr = 8, 128, 1e-4, 1e-6
total_batch = gpus * batch_per_gpu
lr = base_lr * total_batch / 256
max_epochs, warmup_epochs = 100, 5
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.65, no_decay_1d=True, no_decay_names=["pos_embed", "cls_token"]
    ),
)
param_scheduler = [
    dict(type="milan_mm.WarmupLR", end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min_ratio=min_lr / lr,  # of each layer's own rate, as in the authors' code
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
val_cfg = {}
test_cfg = {}
# each process draws its own mixing ratios and dropped paths
randomness = dict(diff_rank_seed=True)
