"""Table 4, row 7: target CLIP, prompting decoder, uniform sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 85.1.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-7-clip-prompting-uniform_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

model = dict(
    mask_generator=dict(type="milan_mm.UniformMaskGenerator"),
)
