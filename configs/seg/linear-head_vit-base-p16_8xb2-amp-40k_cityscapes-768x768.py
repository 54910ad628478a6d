"""Linear head on the frozen features of a plain ViT-B/16, Cityscapes in crops of 768 px.

The settings of the ADE20K recipe but for data; docs/transfer.md has the origin of each number.
Expect: no published number for MILAN, or for any other encoder under exactly this protocol.
Run: bash tools/dist_train.sh \
    seg/linear-head_vit-base-p16_8xb2-amp-40k_cityscapes-768x768 8 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/linear_head_vit.py",
    "../_base_/cityscapes.py",
    "mmseg::_base_/default_runtime.py",
]

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size=_base_.crop_size)),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode="slide", crop_size=_base_.crop_size, stride=_base_.stride),
)
