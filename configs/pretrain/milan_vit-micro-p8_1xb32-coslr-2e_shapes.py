"""MILAN at the size of the ablation in miniature: the rows of tools/ablation.py start from it.

Expect and cost: docs/results.md. Data: python tools/make_shapes.py
Run: python tools/train.py pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes
"""

_base_ = "./milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes.py"

embed_dims = 128
gpus, batch_per_gpu, base_lr = 1, 32, 8e-3
total_batch = gpus * batch_per_gpu
max_epochs, warmup_iters = 2, 30

model = dict(
    backbone=dict(arch=dict(embed_dims=embed_dims, num_layers=4, num_heads=4)),
    decoder=dict(embed_dims=embed_dims, decoder_embed_dims=96, num_layers=1),
)
train_dataloader = dict(batch_size=batch_per_gpu, num_workers=0, persistent_workers=False)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="OptimWrapper",  # float32: without matrix units for it, bfloat16 is slower on a CPU
    optimizer=dict(lr=base_lr * total_batch / 256),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(logger=dict(interval=10))
