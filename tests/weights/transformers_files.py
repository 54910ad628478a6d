"""Folders that transformers itself writes, and the features that it computes from them.

transformers lies apart from the other packages of the tests, so it runs in a process of its own:
`python tests/weights/transformers_files.py FOLDER`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SIZES = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, patch_size=8)
WIDE = dict(SIZES, image_size=32, intermediate_size=192)
NARROW = dict(SIZES, image_size=32, intermediate_size=100)
# Name of the folder -> model_type, and options of its config.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2-g": ("dinov2", dict(SIZES, image_size=32, use_swiglu_ffn=True)),
    "dinov3": ("dinov3_vit", dict(WIDE, num_register_tokens=4)),
    "dinov3-plus": (
        "dinov3_vit",
        dict(NARROW, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"),
    ),
}
SHAPES = ((32, 32), (48, 24))  # of the images, in pixels


def main(folder: Path) -> None:
    """Write all models, and for each `expected.safetensors`: images, tokens, pooled features."""
    from transformers import AutoConfig, AutoModel

    for name, (kind, options) in MODELS.items():
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.for_model(kind, **options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1 or not parameter.abs().sum():
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder / name)
        save_file(
            _expected(getattr(model, "vision_model", model)), folder / name / "expected.safetensors"
        )


@torch.no_grad()
def _expected(model: Callable[..., Any]) -> dict[str, Tensor]:
    found = {}
    for height, width in SHAPES:
        images = torch.randn(2, 3, height, width)
        options = {}
        if (height, width) != SHAPES[0] and _resizes(model):
            options = dict(interpolate_pos_encoding=True)
        out = model(pixel_values=images, **options)
        found[f"images {height}x{width}"] = images
        found[f"tokens {height}x{width}"] = out.last_hidden_state
        if getattr(out, "pooler_output", None) is not None:
            found[f"pooled {height}x{width}"] = out.pooler_output.contiguous()
    return found


def _resizes(model: Callable[..., Any]) -> bool:
    import inspect

    return "interpolate_pos_encoding" in inspect.getsource(type(model).forward)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
