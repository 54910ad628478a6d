"""Finetuning of ViT-B/16 on ImageNet-1K at 384 px, straight from the pretrained encoder.

The paper's hyper-parameters at 384 px are not published, nor whether it goes on from the model of
224 px. Chosen here: the recipe of 224 px unchanged, with positions resized to 24x24 patches, and
tests without a margin (resized straight to 384 px), as the authors' code does above 224 px.

Expect (published, not measured here): top-1 86.4 for MILAN (arXiv 2208.06049), by a recipe that may
differ from this one. Cost: not published.
Run: bash tools/dist_train.sh \
    configs/cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k-384x384.py 8 --weights ENCODER
"""

_base_ = "./finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py"

img_size = 384
model = dict(backbone=dict(img_size=img_size))

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type="milan_mm.LoadRandomResizedCrop", scale=img_size, flip_prob=0.5),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(
        type="mmpretrain.ResizeEdge",
        scale=img_size,
        edge="short",
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="mmpretrain.CenterCrop", crop_size=img_size),
    dict(type="mmpretrain.PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
