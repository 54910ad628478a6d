"""UperNet on ADE20K at 512 px with a plain ViT-L/16, tested at one scale.

Learning rate, layer decay and drop path are those of CAE's ViT-L (its repository); the rest is the
ViT-B recipe.
Expect (published, not measured here): mIoU 54.9 for CAE (its repository), 53.6 for MAE (as CAE's
repository quotes it); none is known for MILAN.
Run: bash tools/dist_train.sh configs/seg/upernet_vit-large-p16_8xb2-amp-160k_ade20k-512x512.py 8 \
    --weights ENCODER
"""

_base_ = ["./upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py"]

embed_dims = 1024

model = dict(
    backbone=dict(arch="large", out_indices=(7, 11, 15, 23), drop_path_rate=0.15),
    neck=dict(embed_dim=embed_dims),
    decode_head=dict(in_channels=[embed_dims] * 4, channels=embed_dims),
    auxiliary_head=dict(in_channels=embed_dims),
)
lr = 4e-5
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=0.95))
