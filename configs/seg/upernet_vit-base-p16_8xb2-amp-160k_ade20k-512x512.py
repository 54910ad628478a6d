"""UperNet on ADE20K at 512 px with a plain ViT-B/16, tested at one scale.

The settings of mmsegmentation's MAE recipe, without its layer scale and relative position bias;
docs/transfer.md has the origin of each number.
Expect (published, not measured here): mIoU 52.7 for MILAN (arXiv 2208.06049, set-up not stated),
48.1 for MAE with layer scale and relative bias in addition (mmsegmentation's table).
Run: bash tools/dist_train.sh configs/seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py 8 \
    --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/upernet_vit.py",
    "../_base_/ade20k.py",
    "mmseg::_base_/default_runtime.py",
]

max_iters, val_interval = 160_000, 16_000

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size=_base_.crop_size)),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode="slide", crop_size=_base_.crop_size, stride=_base_.stride),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, begin=1500, end=max_iters, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(interval=val_interval))
