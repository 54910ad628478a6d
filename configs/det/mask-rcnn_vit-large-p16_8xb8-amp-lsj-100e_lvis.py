"""Mask R-CNN on LVIS v1 at 1024 px with a plain ViT-L/16: what differs from ViT-B.

Expect (published, not measured here): box/mask AP 46.1/43.6 for MAE (detectron2's ViTDet project);
for MILAN nothing is published.
Cost (ViTDet project, 64 A100, one image each): 24.7 GB per GPU and 0.576 s per iteration, hence
about 25 hours. Eight images at a time fit on no GPU of 80 GB: --batch-per-gpu 2 accumulates.
Run: bash tools/dist_train.sh \
    configs/det/mask-rcnn_vit-large-p16_8xb8-amp-lsj-100e_lvis.py 8 \
    --weights ENCODER --batch-per-gpu 2
"""

_base_ = "./mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_lvis.py"

model = dict(
    backbone=dict(arch="large", global_layers=(5, 11, 17, 23), drop_path_rate=0.4),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
