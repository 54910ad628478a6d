"""UperNet on Cityscapes in crops of 768 px with a plain ViT-B/16, tested at one scale.

The settings of the ADE20K recipe but for data and length; docs/transfer.md has the origin of each
number.
Expect: no published number for a plain ViT under exactly this protocol. SETR's ViT-L has mIoU 79.2
with another head and the same crop, length and windows at half the batch (mmsegmentation's table).
Run: bash tools/dist_train.sh \
    seg/upernet_vit-base-p16_8xb2-amp-80k_cityscapes-768x768 8 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/upernet_vit.py",
    "../_base_/cityscapes.py",
    "mmseg::_base_/default_runtime.py",
]

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size=_base_.crop_size)),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode="slide", crop_size=_base_.crop_size, stride=_base_.stride),
)
