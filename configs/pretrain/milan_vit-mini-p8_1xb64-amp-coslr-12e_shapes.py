"""MILAN on the demo's scenes: a ViT of 2.7 million parameters, taught by the shipped tiny CLIP.

Expect and cost: docs/demo.md. Data: python tools/make_shapes.py
Run: python tools/train.py configs/pretrain/milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes.py
"""

_base_ = ["../_base_/shapes_pretrain.py", "../_base_/default_runtime.py"]

patch_size, embed_dims, target_dims = 8, 192, 128
grid = (_base_.img_size // patch_size,) * 2
stats = _base_.shapes_stats
teacher = dict(
    type="milan_mm.CLIPTeacher",
    model_name="shapes-clip",
    pretrained="shipped",
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
        arch=dict(embed_dims=embed_dims, num_layers=6, num_heads=6),
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
        decoder_embed_dims=128,
        num_layers=2,
        num_heads=4,
    ),
    head=dict(type="milan_mm.CLIPTargetHead", teacher=teacher),
)

gpus, batch_per_gpu, base_lr = 1, 64, 4e-3
total_batch = gpus * batch_per_gpu
max_epochs, warmup_epochs = 12, 1
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    optimizer=dict(
        type="AdamW", lr=base_lr * total_batch / 256, betas=(0.9, 0.95), weight_decay=0.05
    ),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(no_decay_1d=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs)
