"""Finetuning of ViT-L/16 on ImageNet-1K at 384 px, straight from the pretrained encoder.

The recipe is a choice, see that of ViT-B at 384 px; drop path and layer decay are those of ViT-L.

Expect (published, not measured here): top-1 87.3 for MILAN (arXiv 2208.06049), by a recipe that may
differ from this one. Cost: not published.
Run: bash tools/dist_train.sh \
    configs/cls/finetune_vit-large-p16_8xb128-amp-coslr-100e_in1k-384x384.py 8 --weights ENCODER
"""

_base_ = "./finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k-384x384.py"

model = dict(backbone=dict(arch="large", drop_path_rate=0.2), head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
