"""Folders that transformers itself writes, and the features that it computes from them.

transformers lies apart from the other packages of the tests, so it runs in a process of its own:
`python tests/weights/transformers_files.py FOLDER`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SIZES = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, patch_size=8)
WIDE = dict(SIZES, image_size=32, intermediate_size=192)
NARROW = dict(SIZES, image_size=32, intermediate_size=100)
TEXT = dict(
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=1,
    num_attention_heads=4,
    vocab_size=20,
    max_position_embeddings=8,
)
# Name of the folder -> model_type, and options of its config.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2-g": ("dinov2", dict(SIZES, image_size=32, use_swiglu_ffn=True)),
    "siglip-vision": ("siglip_vision_model", NARROW),
    "siglip": ("siglip", dict(vision_config=NARROW, text_config=TEXT)),
    "siglip-naflex": (
        "siglip2_vision_model",
        dict(SIZES, num_patches=16, intermediate_size=100),
    ),
    "aimv2": ("aimv2_vision_model", NARROW),
    "aimv2-native": ("aimv2_vision_model", dict(NARROW, is_native=True)),
    "ijepa": ("ijepa", WIDE),
    "clip": ("clip", dict(vision_config=WIDE, text_config=TEXT)),
    "clip-gelu": ("clip_vision_model", dict(WIDE, hidden_act="gelu")),
    "metaclip-2": ("metaclip_2", dict(vision_config=WIDE, text_config=TEXT)),
    "beit": ("beit", dict(WIDE, use_shared_relative_position_bias=True)),
    "data2vec": ("data2vec-vision", dict(WIDE, use_relative_position_bias=True)),
    "msn": ("vit_msn", WIDE),
    "dinov3": ("dinov3_vit", dict(WIDE, num_register_tokens=4)),
    "dinov3-plus": (
        "dinov3_vit",
        dict(NARROW, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"),
    ),
}
REFUSED = ("siglip-naflex", "aimv2-native")
# Images of another size, in pixels, where transformers resizes positions as the source does.
OTHER_SIZE = {"dinov3": (48, 24), "dinov3-plus": (48, 24)}


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
        if name not in REFUSED:
            shapes = [(32, 32), *([OTHER_SIZE[name]] if name in OTHER_SIZE else [])]
            expected = _expected(getattr(model, "vision_model", model), shapes)
            save_file(expected, folder / name / "expected.safetensors")


@torch.no_grad()
def _expected(model: Any, shapes: list[tuple[int, int]]) -> dict[str, Tensor]:
    found = {}
    # CLIP normalises its class token only
    norm = model.post_layernorm if hasattr(model, "pre_layrnorm") else lambda tokens: tokens
    for height, width in shapes:
        images = torch.randn(2, 3, height, width)
        out = model(pixel_values=images)
        found[f"images {height}x{width}"] = images
        found[f"tokens {height}x{width}"] = norm(out.last_hidden_state).contiguous()
        if getattr(out, "pooler_output", None) is not None:
            found[f"pooled {height}x{width}"] = out.pooler_output.contiguous()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
