"""Linear probe of a frozen ViT-L/16 on ImageNet-1K, with a lower learning rate than ViT-B's.

Expect: no number of MILAN's ViT-L is published. Cost: not published.
Run: bash tools/dist_train.sh configs/cls/linear_vit-large-p16_8xb2048-amp-coslr-100e_in1k.py 8 \
    --weights ENCODER
"""

_base_ = "./linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k.py"

embed_dims, base_lr = 1024, 0.02
model = dict(
    backbone=dict(arch="large"),
    neck=dict(input_features=embed_dims),
    head=dict(in_channels=embed_dims),
)
optim_wrapper = dict(optimizer=dict(lr=base_lr * _base_.total_batch / 256))
