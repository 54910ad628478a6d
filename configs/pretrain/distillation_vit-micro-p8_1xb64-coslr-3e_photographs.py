"""Distillation without masking on small photographs: MILAN's target, all patches seen, no decoder.

The rival of tools/photographs.py: what is left of MILAN without its masks.
Expect and cost: docs/results.md. Data: ../_base_/photographs_pretrain.py
Run: python tools/train.py pretrain/distillation_vit-micro-p8_1xb64-coslr-3e_photographs
"""

_base_ = "./milan_vit-micro-p8_1xb64-coslr-3e_photographs.py"

model = dict(
    mask_generator=dict(_delete_=True, type="milan_mm.AllPatches"),
    decoder=dict(
        _delete_=True,
        type="milan_mm.LinearDecoder",
        embed_dims=_base_.embed_dims,
        grid_size=_base_.grid,
        target_dims=_base_.target_dims,
    ),
)
