"""Linear probe of a frozen ViT-B/16 on ImageNet-1K: class token, batch norm, one linear layer.

Expect (published, not measured here): top-1 78.9 for MILAN in mmpretrain, whose probe resizes
bilinearly and scales the bias's step too; the paper gives none. Cost: not published for MILAN;
MAE's, of 90 epochs, took 2 h 20 min on 32 V100 (its repository).
Run: bash tools/dist_train.sh configs/cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k.py 8 \
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
        out_type="cls_token",  # after the final norm
        frozen=True,
    ),
    neck=dict(type="ClsBatchNormNeck", input_features=embed_dims, affine=False, eps=1e-6),
    head=dict(
        type="LinearClsHead",
        num_classes=_base_.num_classes,
        in_channels=embed_dims,
        loss=dict(type="CrossEntropyLoss"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.01),
    ),
)

train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    dict(type="mmpretrain.ToPIL", to_rgb=True),
    # drawn once and clipped, as in TensorFlow, instead of drawn again until it fits; it draws from
    # torch's generator, which `SeedSample` does not reach
    dict(
        type="mmpretrain.MAERandomResizedCrop", size=_base_.img_size, interpolation=3
    ),  # 3 is bicubic
    dict(type="mmpretrain.ToNumpy", to_bgr=True),
    dict(type="mmpretrain.RandomFlip", prob=0.5),
    dict(type="mmpretrain.PackInputs"),
]

gpus, batch_per_gpu, base_lr = 8, 2048, 0.05
total_batch = gpus * batch_per_gpu
max_epochs, warmup_epochs = 100, 10
train_dataloader = dict(batch_size=batch_per_gpu, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    optimizer=dict(
        type="milan_mm.Lars",
        lr=base_lr * total_batch / 256,
        momentum=0.9,
        weight_decay=0.0,
        trust_coeff=1e-3,
        always_adapt=True,  # also without weight decay
    ),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(options_1d=dict(always_adapt=False)),  # the bias takes plain steps
)
param_scheduler = [
    dict(type="milan_mm.WarmupLR", end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
val_cfg = {}
test_cfg = {}
# each process draws its own crops
randomness = dict(diff_rank_seed=True)
