"""UperNet on COCO-Stuff 164k at 512 px with a plain ViT-L/16, tested at one scale.

Learning rate, layer decay and drop path are those of the ADE20K recipe for ViT-L; the rest is the
ViT-B recipe.
Expect: no published number for a plain ViT under exactly this protocol. ViT-Adapter-L with BEiT has
mIoU 50.5 with the same length at 640 px (its repository).
Run: bash tools/dist_train.sh \
    seg/upernet_vit-large-p16_8xb2-amp-80k_coco-stuff164k-512x512 8 --weights ENCODER
"""

_base_ = ["./upernet_vit-base-p16_8xb2-amp-80k_coco-stuff164k-512x512.py"]

embed_dims = 1024

model = dict(
    backbone=dict(arch="large", out_indices=(7, 11, 15, 23), drop_path_rate=0.15),
    neck=dict(embed_dim=embed_dims),
    decode_head=dict(in_channels=[embed_dims] * 4, channels=embed_dims),
    auxiliary_head=dict(in_channels=embed_dims),
)
lr = 4e-5
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=0.95))
