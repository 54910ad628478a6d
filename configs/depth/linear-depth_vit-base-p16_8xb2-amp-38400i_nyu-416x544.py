"""Linear depth on the frozen features of a plain ViT-B/16, NYU Depth v2.

Batch normalisation and one 1x1 convolution on the normalised map of the last block, to 256 bins of
depth: the linear protocol of DINOv3 (`config-nyu.yaml` of its repository), whose differences from
DINOv2's docs/transfer.md has.
Expect (published, not measured here): RMSE 0.373 m for DINOv3's ViT-B/16 (its model card); none is
known for MILAN.
Run: bash tools/dist_train.sh \
    depth/linear-depth_vit-base-p16_8xb2-amp-38400i_nyu-416x544 8 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/nyu.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_25k.py",
]

embed_dims = 768

model = dict(
    type="DepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # no depth
        size=_base_.crop_size,
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=16,
        frozen=True,
        out_indices=(-1,),
    ),
    neck=dict(type="milan_mm.BatchNormNeck", embed_dims=embed_dims, norm_cfg=dict(type="SyncBN")),
    decode_head=dict(
        type="milan_mm.LinearDepthHead",
        in_channels=embed_dims,
        num_bins=256,
        min_depth=1e-3,
        max_depth=_base_.max_depth,
        loss_decode=dict(type="milan_mm.ScaleInvariantLoss"),
    ),
    # the whole image and its mirror image, averaged
    test_cfg=dict(mode="slide_flip", crop_size=_base_.whole, stride=_base_.whole),
)

lr, max_iters, val_interval = 3e-4, 38_400, 4_800
optim_wrapper = dict(
    _delete_=True,
    type="milan_mm.BFloat16OptimWrapper",
    modules=["backbone", "neck", "decode_head"],  # the loss stays float32
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.99), weight_decay=1e-4),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",  # leaves frozen tensors out
    clip_grad=dict(max_norm=35.0),
)
# the published rate is the product of both
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=max_iters // 3),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=3, backend_args=atomic))
