"""Linear head on the frozen features of a plain ViT-L/16, COCO-Stuff 164k at 512 px.

Expect: no published number for MILAN, or for any other encoder under exactly this protocol.
Run: bash tools/dist_train.sh \
    seg/linear-head_vit-large-p16_8xb2-amp-40k_coco-stuff164k-512x512 8 --weights ENCODER
"""

_base_ = ["./linear-head_vit-base-p16_8xb2-amp-40k_coco-stuff164k-512x512.py"]

embed_dims = 1024

model = dict(
    backbone=dict(arch="large"),
    neck=dict(embed_dims=embed_dims),
    decode_head=dict(in_channels=embed_dims, channels=embed_dims),
)
