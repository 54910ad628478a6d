"""Table 4, row 8, which is MILAN: target CLIP, prompting decoder, semantic sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 85.4 (85.6 after 1600 epochs).
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-8-clip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"
