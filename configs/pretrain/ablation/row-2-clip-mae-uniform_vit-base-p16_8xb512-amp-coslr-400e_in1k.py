"""Table 4, row 2: target CLIP, MAE decoder, uniform sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 83.9.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-2-clip-mae-uniform_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    mask_generator=dict(type="milan_mm.UniformMaskGenerator"),
    decoder=dict(type="milan_mm.MAEDecoder"),
)
