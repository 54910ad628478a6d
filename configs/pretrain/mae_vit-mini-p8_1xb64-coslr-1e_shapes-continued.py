"""The demo's MAE pretraining: one more epoch for a pretrained encoder, with a fresh decoder.

Expect and cost: docs/demo.md. Data: python tools/make_shapes.py
Run: python tools/train.py pretrain/mae_vit-mini-p8_1xb64-coslr-1e_shapes-continued \
    --weights milan_mm/assets/mae_mini_shapes.safetensors
"""

_base_ = "./mae_vit-mini-p8_1xb64-amp-coslr-12e_shapes.py"

max_epochs, warmup_iters = 1, 20
optim_wrapper = dict(
    type="OptimWrapper",  # float32, so that two processes give the losses of one
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(layer_decay_rate=0.7),  # the decoder is new, the encoder is not
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup_iters),
    dict(type="CosineAnnealingLR", T_max=max_epochs, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(logger=dict(interval=10))
