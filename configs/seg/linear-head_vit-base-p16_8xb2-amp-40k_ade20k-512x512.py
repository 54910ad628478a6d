"""Linear head on the frozen features of a plain ViT-B/16, ADE20K at 512 px.

Batch normalisation and one 1x1 convolution on the normalised map of the last block: the linear
protocol of DINOv2's segmentation heads, in bfloat16 and with patches of 16 pixels.
Expect: no published number for MILAN, or for any other encoder under exactly this protocol.
Run: bash tools/dist_train.sh configs/seg/linear-head_vit-base-p16_8xb2-amp-40k_ade20k-512x512.py \
    8 --weights ENCODER
"""

_base_ = ["./upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py"]

embed_dims, num_classes = 768, 150
max_iters, val_interval = 40_000, 10_000

model = dict(
    backbone=dict(frozen=True, final_norm=True, out_indices=(-1,), drop_path_rate=0.0),
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
        num_classes=num_classes,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)

lr = 1e-3
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
default_hooks = dict(checkpoint=dict(interval=val_interval))
