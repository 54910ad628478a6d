"""The image tower of the shipped tiny SLIP, as an architecture that timm knows by name."""

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch.nn import LayerNorm

default_cfgs = generate_default_cfgs({"vit_shapes_patch8_96": dict(input_size=(3, 96, 96))})


@register_model
def vit_shapes_patch8_96(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """A ViT for images of 96 pixels: 144 patches, 5 blocks of width 128, plain GELU.

    Norm before the blocks, no patch bias and eps 1e-5, as in the CLIP towers of timm, so that the
    weights of the tiny CLIP (assets/shapes-clip.json) fit. The towers of SLIP's authors have none.
    """
    settings: dict[str, Any] = dict(
        img_size=96,
        patch_size=8,
        embed_dim=128,
        depth=5,
        num_heads=4,
        pre_norm=True,
        norm_layer=partial(LayerNorm, eps=1e-5),
    )
    return build_model_with_cfg(
        VisionTransformer, "vit_shapes_patch8_96", pretrained, **(settings | kwargs)
    )
