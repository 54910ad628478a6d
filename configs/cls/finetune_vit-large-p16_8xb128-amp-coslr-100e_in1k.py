"""Finetuning of ViT-L/16 on ImageNet-1K at 224 px, 100 epochs (MAE's ViT-L takes 50).

Expect (published, not measured here): top-1 86.7 for MILAN (arXiv 2208.06049). Cost: not published.
Run: bash tools/dist_train.sh configs/cls/finetune_vit-large-p16_8xb128-amp-coslr-100e_in1k.py 8 \
    --weights ENCODER
"""

_base_ = "./finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py"

model = dict(backbone=dict(arch="large", drop_path_rate=0.2), head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
