"""Table 4, row 6: target CLIP, MAE decoder, semantic sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 84.1.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-6-clip-mae-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    decoder=dict(type="milan_mm.MAEDecoder"),
)
