"""Beyond Table 4, row 10: target SigLIP 2, prompting decoder, semantic sampling.

Expect (not measured): nothing is published.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-10-siglip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan-siglip_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"
