"""Table 4, row 5: target normalised pixels, prompting decoder, semantic sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 83.3.
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-5-pixel-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

patch_size = 16

model = dict(
    decoder=dict(target_dims=3 * patch_size**2),
    head=dict(
        _delete_=True,
        type="milan_mm.PixelTargetHead",
        patch_size=patch_size,
        norm_pix=True,
        teacher=_base_.teacher,  # only for the importance of patches
    ),
)
