"""MILAN on small photographs: the arms of tools/photographs.py start from it.

The teacher, a small CLIP, is trained on other classes: python tools/train_photographs_clip.py
Expect and cost: docs/results.md. Data: ../_base_/photographs_pretrain.py
Run: python tools/train.py pretrain/milan_vit-micro-p8_1xb64-coslr-3e_photographs
"""

_base_ = ["../_base_/photographs_pretrain.py", "../_base_/default_runtime.py"]

patch_size, embed_dims, target_dims = 8, 128, 128
grid = (_base_.img_size // patch_size,) * 2
stats = _base_.photographs_stats
teacher = dict(
    type="milan_mm.CLIPTeacher",
    model_name="photos-clip",
    pretrained="work_dirs/photographs/clip.safetensors",
    grid_size=grid,
    input_stats=stats,
    stats=stats,
)

model = dict(
    type="milan_mm.MILAN",
    _scope_="mmpretrain",
    data_preprocessor=dict(type="SelfSupDataPreprocessor", to_rgb=True, **stats),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch=dict(embed_dims=embed_dims, num_layers=4, num_heads=4),
        img_size=_base_.img_size,
        patch_size=patch_size,
        fixed_pos_embed=True,
    ),
    mask_generator=dict(type="milan_mm.SemanticMaskGenerator", mask_ratio=0.75),
    decoder=dict(
        type="milan_mm.PromptingDecoder",
        embed_dims=embed_dims,
        grid_size=grid,
        target_dims=target_dims,
        decoder_embed_dims=96,
        num_layers=1,
        num_heads=4,
    ),
    head=dict(type="milan_mm.CLIPTargetHead", teacher=teacher),
)

gpus, batch_per_gpu, base_lr = 1, 64, 8e-3
total_batch = gpus * batch_per_gpu
max_epochs, warmup_iters = 3, 60
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="OptimWrapper",  # float32: without matrix units for it, bfloat16 is slower on a CPU
    optimizer=dict(
        type="AdamW", lr=base_lr * total_batch / 256, betas=(0.9, 0.95), weight_decay=0.05
    ),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(no_decay_1d=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
