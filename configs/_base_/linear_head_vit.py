"""A linear head on the frozen features of a plain ViT-B/16: what does not depend on the data.

All numbers are those of the ADE20K recipe
(seg/linear-head_vit-base-p16_8xb2-amp-40k_ade20k-512x512).
"""

_base_ = ["mmseg::_base_/models/upernet_mae.py", "mmseg::_base_/schedules/schedule_40k.py"]

embed_dims, lr = 768, 1e-3
max_iters, val_interval = 40_000, 10_000

model = dict(
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=16,
        frozen=True,
        out_indices=(-1,),
    ),
    neck=dict(
        _delete_=True,
        type="milan_mm.BatchNormNeck",
        embed_dims=embed_dims,
        norm_cfg=dict(type="SyncBN"),
    ),
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_channels=embed_dims,
        in_index=0,
        channels=embed_dims,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)

optim_wrapper = dict(
    _delete_=True,
    type="milan_mm.BFloat16OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=1e-4),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",  # leaves frozen tensors out
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, begin=1500, end=max_iters, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=3, backend_args=atomic))
