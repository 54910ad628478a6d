"""A `.pth` for `init_cfg=dict(type='Pretrained', checkpoint=FILE)` in OpenMMLab's own backbones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from milan_mm.encoder.export.parts import Parts
from milan_mm.weights.layouts.table import BIAS_TABLE
from milan_mm.weights.spelling import spell

_ACTS = {
    "GELU": dict(type="GELU"),
    "GELUTanh": dict(type="GELU", approximate="tanh"),
    "QuickGELU": dict(type="mmpretrain.QuickGELU"),
}
_RULES = {"bicubic": "bicubic", "bilinear": "bilinear"}
Backbone = dict[str, Any]


def openmmlab_files(parts: Parts) -> tuple[Backbone, dict[str, Tensor]]:
    """The backbone for a config of mmpretrain, mmdet or mmseg, and its tensors.

    mmpretrain's `VisionTransformer` or `BEiTViT`, which mmdet and mmseg take by their scope.

    Raises:
        UserError: When neither has all parts of the encoder.
    """
    parts = parts.without("attn_pool.")
    if parts.settings["rel_pos_bias_grid"]:
        return _beit(parts)
    parts.refuse("mmpretrain's VisionTransformer", _foreign(parts))
    tensors = spell(parts.tensors, "mmpretrain")
    for kind, owner in ((1, "attn"), (2, "ffn")):
        tensors = {
            n.replace(f"gamma_{kind}", f"{owner}.gamma{kind}.weight"): t for n, t in tensors.items()
        }
    backbone = _common(parts, "VisionTransformer") | dict(
        with_cls_token=parts.has_cls_token,
        out_type=_out_type(parts),
        pre_norm=parts.settings["pre_norm"],
        patch_cfg=dict(bias=parts.settings["patch_bias"]),
        layer_scale_init_value=1e-5 if parts.has_layer_scale else 0.0,
    )
    return backbone, tensors


def mmseg_files(parts: Parts) -> tuple[Backbone, dict[str, Tensor]]:
    """As `openmmlab_files`, for mmseg's own `VisionTransformer`."""
    unlike = {
        "relative position bias": bool(parts.settings["rel_pos_bias_grid"]),
        "it has no class token": not parts.has_cls_token,
        "layer scale": parts.has_layer_scale,
        "MLPs that are not four times as wide": parts.mlp_dims != 4 * parts.embed_dims,
        "a norm before the first block": parts.settings["pre_norm"],
        "a norm after pooling": parts.has_pooled_norm,
    }
    parts.refuse("mmseg's VisionTransformer", _foreign(parts) | unlike)
    changes = (
        (".attn.qkv.", ".attn.attn.in_proj_"),
        (".attn.proj.", ".attn.attn.out_proj."),
    )
    tensors = dict(parts.without("attn_pool.").tensors)
    for ours, theirs in changes:
        tensors = {name.replace(ours, theirs): tensor for name, tensor in tensors.items()}
    settings = parts.settings
    backbone = dict(
        type="mmseg.VisionTransformer",
        img_size=(parts.img_size, parts.img_size),
        patch_size=parts.patch_size,
        embed_dims=parts.embed_dims,
        num_layers=parts.num_layers,
        num_heads=parts.num_heads,
        patch_bias=settings["patch_bias"],
        final_norm=parts.has_final_norm,
        norm_cfg=dict(type="LN", eps=settings["norm_eps"]),
        act_cfg=_ACTS[settings["act"]],
        interpolate_mode=_RULES.get(settings["pos_resize"], "bicubic"),
    )
    return backbone, tensors


def _beit(parts: Parts) -> tuple[Backbone, dict[str, Tensor]]:
    unlike = (
        _foreign(parts)
        | parts.beside
        | {
            "a key bias": parts.has_key_bias,
            "a bias of the patches is missing": not parts.settings["patch_bias"],
            "layer scale is missing": not parts.has_layer_scale,
        }
    )
    parts.refuse("mmpretrain's BEiTViT", unlike)
    tensors = spell(parts.tensors, "mmpretrain-beit")
    # the class computes these anew, and asks for them when it loads strictly
    side, tables = parts.img_size // parts.patch_size, BIAS_TABLE.rpartition(".")[0]
    index = _pair_index(side, parts.has_cls_token)
    for i in range(parts.num_layers):
        tensors[f"{tables.replace('#', str(i))}.relative_position_index"] = index
    backbone = _common(parts, "BEiTViT") | dict(
        with_cls_token=parts.has_cls_token,
        out_type=_out_type(parts),
        use_abs_pos_emb="pos_embed" in parts.tensors,
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
        layer_scale_init_value=0.1,
    )
    return backbone, tensors


def _common(parts: Parts, kind: str) -> Backbone:
    settings, width = parts.settings, parts.embed_dims
    return dict(
        type=f"mmpretrain.{kind}",
        arch=dict(
            embed_dims=width,
            num_layers=parts.num_layers,
            num_heads=parts.num_heads,
            feedforward_channels=parts.mlp_dims,
        ),
        img_size=parts.img_size,
        patch_size=parts.patch_size,
        norm_cfg=dict(type="LN", eps=settings["norm_eps"]),
        layer_cfgs=dict(act_cfg=_ACTS[settings["act"]]),
        final_norm=parts.has_final_norm,
        interpolate_mode=_RULES.get(settings["pos_resize"], "bicubic"),
    )


def _foreign(parts: Parts) -> dict[str, bool]:
    return parts.newer | {
        "registers": bool(parts.num_registers),
        "rotary positions": bool(parts.settings["rope_base"]),
        f"the activation {parts.settings['act']}": parts.settings["act"] not in _ACTS,
    }


def _out_type(parts: Parts) -> str:
    # the norm after pooling exists with this output only
    if parts.has_pooled_norm:
        return "avg_featmap"
    return "cls_token" if parts.pooling == "cls" and parts.has_cls_token else "raw"


def _pair_index(side: int, with_cls_token: bool) -> Tensor:
    from timm.layers import gen_relative_position_index

    return gen_relative_position_index((side, side), class_token=with_cls_token)


def load_openmmlab(backbone: Backbone, file: str) -> Callable[[Tensor], Tensor]:
    """The backbone, as a config would build it: images to all tokens.

    Raises:
        RuntimeError: torch's, when the tensors are not exactly those of the class.
    """
    package, _, kind = backbone["type"].partition(".")
    options = {name: value for name, value in backbone.items() if name != "type"}
    state = torch.load(file, weights_only=True)["state_dict"]
    if package == "mmseg":
        from mmseg.models import VisionTransformer

        model = VisionTransformer(**options, output_cls_token=True)
        model.load_state_dict(state)
        model.eval()

        def tokens(images: Tensor) -> Tensor:
            maps, cls_token = model(images)[-1]
            return torch.cat([cls_token[:, None], maps.flatten(2).mT], dim=1)

        return tokens
    import mmpretrain.models

    built = getattr(mmpretrain.models, kind)(**options)
    built.load_state_dict(state)
    built.eval()
    built.out_type = "raw"  # all tokens, of the same weights
    return lambda images: built(images)[-1]
