"""Linear depth on the frozen features of a plain ViT-L/16, NYU Depth v2.

Batch normalisation and one 1x1 convolution on the normalised map of the last block, to 256 bins of
depth: the linear protocol of DINOv3 (`config-nyu.yaml` of its repository), whose differences from
DINOv2's docs/transfer.md has.
Expect (published, not measured here): RMSE 0.352 m for DINOv3's ViT-L/16 (its model card); none is
known for MILAN.
Run: bash tools/dist_train.sh \
    depth/linear-depth_vit-large-p16_8xb2-amp-38400i_nyu-416x544 8 --weights ENCODER
"""

_base_ = ["./linear-depth_vit-base-p16_8xb2-amp-38400i_nyu-416x544.py"]

embed_dims = 1024

model = dict(
    backbone=dict(arch="large"),
    neck=dict(embed_dims=embed_dims),
    decode_head=dict(in_channels=embed_dims),
)
