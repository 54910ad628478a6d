"""MILAN, ViT-L/16, ImageNet-1K, 400 epochs; the teacher is CLIP ViT-L/14 of OpenAI.

Our own: the authors teach their ViT-L by CLIP ViT-B/16, as milan_vit-large-p16 does. This teacher
sees the student's images at 196 px, so that its 14x14 patches of 14 px are the student's.

Expect (not measured): nothing is published.
Cost (not measured): the teacher takes 3.5 times the arithmetic of CLIP ViT-B/16, by its sizes.
Run: bash tools/dist_train.sh \
    configs/pretrain/milan-clip-large_vit-large-p16_8xb512-amp-coslr-400e_in1k.py 8
"""

_base_ = "./milan_vit-large-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    decoder=dict(target_dims=768),
    head=dict(teacher=dict(model_name="ViT-L-14-quickgelu")),
)
