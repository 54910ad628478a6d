"""Table 4, row 1: target normalised pixels, MAE decoder, uniform sampling.

Expect (published, arXiv 2208.06049): finetuned top-1 83.0 (83.6 after 1600 epochs).
Run: bash tools/dist_train.sh \
    pretrain/ablation/row-1-pixel-mae-uniform_vit-base-p16_8xb512-amp-coslr-400e_in1k 8
"""

_base_ = "../milan_vit-base-p16_8xb512-amp-coslr-400e_in1k.py"

patch_size = 16

model = dict(
    mask_generator=dict(type="milan_mm.UniformMaskGenerator"),
    decoder=dict(type="milan_mm.MAEDecoder", target_dims=3 * patch_size**2),
    head=dict(_delete_=True, type="milan_mm.PixelTargetHead", patch_size=patch_size, norm_pix=True),
)
