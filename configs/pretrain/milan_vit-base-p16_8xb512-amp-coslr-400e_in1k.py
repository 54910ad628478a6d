"""MILAN, ViT-B/16, ImageNet-1K, 400 epochs, teacher CLIP ViT-B/16 of OpenAI.

Expect (published, not measured here): finetuned top-1 85.4 (arXiv 2208.06049), 85.3 in
mmpretrain's rerun, which also found 78.9 by linear probe.
Cost (published): about 39 h on 8 A100 (the authors' repository).
Run: bash tools/dist_train.sh configs/pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py 8
"""

_base_ = ["../_base_/imagenet_pretrain.py", "../_base_/default_runtime.py"]

patch_size, embed_dims, target_dims = 16, 768, 512
grid = (_base_.img_size // patch_size,) * 2
stats = _base_.imagenet_stats
teacher = dict(
    type="milan_mm.CLIPTeacher",
    model_name="ViT-B-16-quickgelu",
    pretrained="openai",
    grid_size=grid,
    # the paper's code shows the teacher the student's ImageNet-normalised images; CLIP's own
    # statistics are mean [122.8, 116.7, 104.1], std [68.5, 66.6, 70.3]
    input_stats=stats,
    stats=stats,
)

model = dict(
    type="milan_mm.MILAN",
    _scope_="mmpretrain",
    data_preprocessor=dict(type="SelfSupDataPreprocessor", to_rgb=True, non_blocking=True, **stats),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch="base",
        img_size=_base_.img_size,
        patch_size=patch_size,
        fixed_pos_embed=True,
    ),
    mask_generator=dict(type="milan_mm.SemanticMaskGenerator", mask_ratio=0.75),
    decoder=dict(
        type="milan_mm.PromptingDecoder",
        embed_dims=embed_dims,
        grid_size=grid,
        target_dims=target_dims,
        decoder_embed_dims=512,
        num_layers=8,
        num_heads=16,
    ),
    head=dict(type="milan_mm.CLIPTargetHead", teacher=teacher),
)

gpus, batch_per_gpu, base_lr = 8, 512, 1.5e-4
total_batch = gpus * batch_per_gpu
max_epochs, warmup_epochs = 400, 40
train_dataloader = dict(batch_size=batch_per_gpu)
auto_scale_lr = dict(base_batch_size=total_batch)
optim_wrapper = dict(
    type="milan_mm.BFloat16OptimWrapper",
    optimizer=dict(
        type="AdamW",
        lr=base_lr * total_batch / 256,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
    ),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    # the authors' rule: one-dimensional tensors are exempt, class and mask token are not;
    # no_decay_names=["cls_token", "mask_token"] exempts these as well
    paramwise_cfg=dict(no_decay_1d=True, no_decay_names=[]),
)
param_scheduler = [
    dict(type="milan_mm.WarmupLR", end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        eta_min=0.0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs)
