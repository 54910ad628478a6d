"""Beyond Table 4, row 13: target MAE, prompting decoder, semantic sampling.

It never saw a text or a label.
Expect (not measured): nothing is published.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-13-mae-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    head=dict(
        teacher=dict(
            model_name="vit_base_patch16_224.mae",
            pretrained="timm",
        )
    ),
)
