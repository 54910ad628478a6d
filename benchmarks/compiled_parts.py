"""Parts of newer encoders, compiled by torch's inductor as `--compile` does, against eager mode.

  python -m benchmarks.compiled_parts

One forward and one backward pass in float32, on a CPU. Each encoder takes about 40 s of processor
time, most of it in the C++ compiler.
"""

from typing import Any

import torch
from torch import Tensor

from milan_mm.engine.hooks.compiling import compile_parts
from milan_mm.models.plain_vit import PlainViT

ARCH = dict(embed_dims=48, num_layers=3, num_heads=4)
# All parts that go together, in one encoder.
ENCODERS: dict[str, dict[str, Any]] = {
    "SwiGLU, RMSNorms everywhere, q/k norms, EVA-02's positions, layer scale, registers": dict(
        act="SwiGLU",
        mlp_dims=100,
        norm="RMS",
        patch_norm=True,
        qk_norm=True,
        attn_norm=True,
        mlp_norm=True,
        layer_scale=0.5,
        num_registers=2,
        rope_base=1e4,
        rope_kind="eva02",
        rope_grid=(16, 16),
        out_type="raw",
    ),
    "no class token, attention pooling, GELU's tanh approximation, PE's positions": dict(
        with_cls_token=False,
        act="GELUTanh",
        pre_norm=True,
        patch_bias=False,
        rope_base=1e4,
        rope_kind="pe-patches",
        pool_heads=2,
        pool_dims=100,
        out_type="attn_pool",
    ),
    "DINOv3's positions, layer scale, registers": dict(
        rope_base=100.0,
        with_pos_embed=False,
        layer_scale=0.5,
        num_registers=4,
        out_type="raw",
    ),
}


def main() -> None:
    """Print the largest differences of features, and of gradients relative to the largest one."""
    torch.manual_seed(0)
    imgs = torch.randn(2, 3, 32, 32)
    print(f"{'features':>9} {'gradients':>9}  encoder")
    for name, options in ENCODERS.items():
        vit = PlainViT(ARCH, img_size=32, patch_size=8, **options).train()
        features, gradients = step(vit, imgs)
        compile_parts(vit)
        found, others = step(vit, imgs)
        worst = max(_off(others[n], gradient) for n, gradient in gradients.items())
        print(f"{(found - features).abs().max():9.1e} {worst:9.1e}  {name}", flush=True)
        torch.compiler.reset()


def step(vit: PlainViT, imgs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Features, and gradients by name."""
    vit.zero_grad()
    (out,) = vit(imgs)
    out.square().mean().backward()
    return out.detach(), {n: p.grad for n, p in vit.named_parameters() if p.grad is not None}


def _off(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


if __name__ == "__main__":
    main()
