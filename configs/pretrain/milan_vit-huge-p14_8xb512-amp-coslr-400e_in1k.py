"""MILAN, ViT-H/14, ImageNet-1K, 400 epochs; the teacher is CLIP ViT-L/14 of OpenAI.

Our own: MILAN was published for ViT-B and ViT-L. The sizes are MAE's ViT-H (32 blocks, width 1280,
16 heads); all else is the recipe of ViT-B. This teacher has the student's grid of 16x16 patches at
224 px, so neither its images nor its positions are resized.

Expect (not measured): nothing is published.
Cost (not measured, by arithmetic): 657 million trained parameters. On 8 GPUs with
--batch-per-gpu 128 about 28 GiB per GPU, with --fsdp 18 GiB (docs/cluster.md). 443 GFLOP per image
and step, 2.9 times those of ViT-L: about 200 h on 8 A100.
Run: bash tools/dist_train.sh configs/pretrain/milan_vit-huge-p14_8xb512-amp-coslr-400e_in1k.py 8 \
    --fsdp --batch-per-gpu 128
"""

_base_ = "./milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

patch_size, embed_dims, target_dims = 14, 1280, 768
grid = (_base_.img_size // patch_size,) * 2
teacher = dict(model_name="ViT-L-14-quickgelu", grid_size=grid)

model = dict(
    backbone=dict(arch="huge", patch_size=patch_size),
    decoder=dict(embed_dims=embed_dims, grid_size=grid, target_dims=target_dims),
    head=dict(teacher=teacher),
)
