"""UperNet on a plain ViT-B/16 for 80,000 iterations: what does not depend on the data.

All numbers are those of the ADE20K recipe (seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512),
but for the length, which is that of ViT-Adapter's UperNet on Pascal Context and COCO-Stuff and of
SETR on Cityscapes.
"""

_base_ = ["mmseg::_base_/models/upernet_mae.py", "mmseg::_base_/schedules/schedule_80k.py"]

embed_dims, lr = 768, 1e-4
max_iters, val_interval = 80_000, 8_000

model = dict(
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=16,
        final_norm=False,
        out_indices=(3, 5, 7, 11),
        drop_path_rate=0.1,
    ),
    neck=dict(embed_dim=embed_dims, norm_cfg=dict(type="SyncBN", requires_grad=True)),
    decode_head=dict(in_channels=[embed_dims] * 4, channels=embed_dims),
    auxiliary_head=dict(in_channels=embed_dims),
)

optim_wrapper = dict(
    _delete_=True,
    type="milan_mm.BFloat16OptimWrapper",
    # full-size logits, which the losses make, stay float32: nothing copies them
    modules=["backbone", "neck", "decode_head", "auxiliary_head"],
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.65, no_decay_1d=True, no_decay_names=["pos_embed", "cls_token"]
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, begin=1500, end=max_iters, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=3, backend_args=atomic))
