"""Beyond Table 4, row 11: target DINOv3, prompting decoder, semantic sampling.

It has a class token and four registers, which are left out of the importance.
Expect (not measured): nothing is published.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-11-dinov3-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    head=dict(
        teacher=dict(
            model_name="vit_base_patch16_dinov3.lvd1689m",
            pretrained="timm",
        )
    ),
)
