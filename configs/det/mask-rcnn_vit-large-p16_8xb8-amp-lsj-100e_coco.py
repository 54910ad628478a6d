"""Mask R-CNN on COCO at 1024 px with a plain ViT-L/16: the ViT-B recipe, and what differs.

Expect (published, not measured here): box/mask AP 55.5/49.2 for MAE (detectron2's ViTDet project);
for MILAN nothing is published.
Cost (ViTDet project, 64 A100, one image each): 20.9 GB per GPU and 0.603 s per iteration, hence
about 31 hours. Eight images at a time fit on no GPU of 80 GB: --batch-per-gpu 2 accumulates.
Run: bash tools/dist_train.sh configs/det/mask-rcnn_vit-large-p16_8xb8-amp-lsj-100e_coco.py 8 \
    --weights ENCODER --batch-per-gpu 2
"""

_base_ = "./mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py"

model = dict(
    backbone=dict(arch="large", global_layers=(5, 11, 17, 23), drop_path_rate=0.4),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
