"""Mask2Former for the instances of COCO at 1024 px, on a plain ViT-L/16: what differs from ViT-B.

Expect: nothing is published for exactly this recipe.
Run: bash tools/dist_train.sh configs/det/mask2former_vit-large-p16_8xb2-amp-lsj-50e_coco.py 8 \
    --weights ENCODER
"""

_base_ = "./mask2former_vit-base-p16_8xb2-amp-lsj-50e_coco.py"

model = dict(
    backbone=dict(arch="large", global_layers=(5, 11, 17, 23), drop_path_rate=0.4),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
