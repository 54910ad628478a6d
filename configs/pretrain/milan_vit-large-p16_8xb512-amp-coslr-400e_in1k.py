"""MILAN, ViT-L/16, ImageNet-1K, 400 epochs; the teacher is CLIP ViT-B/16 as for ViT-B.

Expect (published, not measured here): finetuned top-1 86.7 (arXiv 2208.06049). Cost: not published.
The authors hold 128 images per GPU, as --batch-per-gpu 128 does; the total batch is unchanged.
Run: bash tools/dist_train.sh configs/pretrain/milan_vit-large-p16_8xb512-amp-coslr-400e_in1k.py 8
"""

_base_ = "./milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(backbone=dict(arch="large"), decoder=dict(embed_dims=1024))
