"""Beyond Table 4, row 14: target MILAN, prompting decoder, semantic sampling.

The student of row 8 teaches a second generation.
Expect (not measured): nothing is published.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-14-milan-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    head=dict(
        teacher=dict(
            model_name="vit_base_patch16_224",
            pretrained="work_dirs/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k/epoch_400.pth",
        )
    ),
)
