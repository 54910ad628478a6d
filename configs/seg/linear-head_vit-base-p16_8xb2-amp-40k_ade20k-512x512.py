"""Linear head on the frozen features of a plain ViT-B/16, ADE20K at 512 px.

Batch normalisation and one 1x1 convolution on the normalised map of the last block: the linear
protocol of DINOv2's segmentation heads, in bfloat16 and with patches of 16 pixels.
Expect: no published number for MILAN, or for any other encoder under exactly this protocol.
Run: bash tools/dist_train.sh configs/seg/linear-head_vit-base-p16_8xb2-amp-40k_ade20k-512x512.py \
    8 --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "../_base_/linear_head_vit.py",
    "../_base_/ade20k.py",
    "mmseg::_base_/default_runtime.py",
]

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size=_base_.crop_size)),
    # the defaults, which this recipe has always stated: its hash is that of earlier runs
    backbone=dict(final_norm=True, drop_path_rate=0.0),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(mode="slide", crop_size=_base_.crop_size, stride=_base_.stride),
)
