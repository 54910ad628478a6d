"""Finetuning of ViT-H/14 on ImageNet-1K at 224 px, 50 epochs.

Our own: MILAN was published for ViT-B and ViT-L. Length, drop path and layer decay are those of
MAE's ViT-H; all else is the recipe of ViT-B.

Expect (not measured): nothing is published for MILAN. Cost (not measured): 632 million parameters,
and the activations of 257 tokens in 32 blocks; --fsdp, --batch-per-gpu and
model.backbone.with_cp=True save memory.
Run: bash tools/dist_train.sh configs/cls/finetune_vit-huge-p14_8xb128-amp-coslr-50e_in1k.py 8 \
    --fsdp --batch-per-gpu 32 --weights ENCODER
"""

_base_ = "./finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k.py"

model = dict(
    backbone=dict(arch="huge", patch_size=14, drop_path_rate=0.3), head=dict(in_channels=1280)
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
max_epochs = 50
param_scheduler = [
    dict(type="milan_mm.WarmupLR", end=_base_.warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=_base_.warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - _base_.warmup_epochs,
        eta_min_ratio=_base_.min_lr / _base_.lr,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
