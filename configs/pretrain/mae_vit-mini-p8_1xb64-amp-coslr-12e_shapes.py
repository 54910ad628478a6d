"""Plain MAE on the demo's scenes, to compare with MILAN: pixels, uniform sampling, MAE decoder.

Expect and cost: docs/demo.md. Data: python tools/make_shapes.py
Run: python tools/train.py configs/pretrain/mae_vit-mini-p8_1xb64-amp-coslr-12e_shapes.py
"""

_base_ = "./milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes.py"

patch_size = 8

model = dict(
    mask_generator=dict(type="milan_mm.UniformMaskGenerator"),
    decoder=dict(type="milan_mm.MAEDecoder", target_dims=3 * patch_size**2),
    head=dict(_delete_=True, type="milan_mm.PixelTargetHead", patch_size=patch_size, norm_pix=True),
)
