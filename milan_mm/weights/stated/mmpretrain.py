"""Facts from the `model.backbone` of mmpretrain, as a training's own config states it."""

from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.stated.facts import HubFacts

NAMED = "the config in it"
# Backbones that are plain ViTs -> the class whose `arch_zoo` names their sizes.
BACKBONES = {
    **dict.fromkeys(
        ("VisionTransformer", "MAEViT", "MILANViT", "MFFViT", "MoCoV3ViT", "MaskFeatViT"),
        "VisionTransformer",
    ),
    "DistilledVisionTransformer": "DistilledVisionTransformer",
    "DeiT3": "DeiT3",
    **dict.fromkeys(("BEiTViT", "BEiTPretrainViT", "CAEPretrainViT"), "BEiTViT"),
}
# The backbone of MoCo v3 adds these when it is built.
_MOCO_V3 = dict.fromkeys(("mocov3-s", "mocov3-small"), 12)
_ACTS = ("GELU", "QuickGELU")


def mmpretrain_facts(backbone: dict) -> HubFacts:
    """Options of the encoder that a backbone of mmpretrain has.

    Args:
        backbone: Literals only; what could not be parsed is None.

    Raises:
        UserError: For an activation or a norm that `PlainViT` does not have.
    """
    kind = str(backbone["type"]).rpartition(".")[2]
    if kind not in BACKBONES:
        return HubFacts(
            foreign=f"{NAMED} says model.backbone.type='{backbone['type']}'", named=NAMED
        )
    norm = backbone.get("norm_cfg", dict(eps=1e-6))  # the classes' own default
    layers = backbone.get("layer_cfgs") or {}
    for layer in layers if isinstance(layers, list) else [layers]:
        act = layer.get("act_cfg") if isinstance(layer, dict) else None
        norm = layer.get("norm_cfg", norm) if isinstance(layer, dict) else norm
    act = act.get("type") if isinstance(act, dict) else "GELU"
    if act not in _ACTS:
        raise UserError(f"{NAMED} says act_cfg={act!r}, supported are {', '.join(_ACTS)}")
    if isinstance(norm, dict) and norm.get("type", "LN") not in ("LN", "LayerNorm"):
        raise UserError(f"{NAMED} says norm_cfg={norm}, supported is LN")
    return HubFacts(
        num_heads=_num_heads(backbone.get("arch", "base"), BACKBONES[kind]),
        patch_size=_integer(backbone.get("patch_size", 16)),
        norm_eps=norm.get("eps", 1e-5) if isinstance(norm, dict) else None,  # build_norm_layer's
        act=act,
        named=NAMED,
    )


def _num_heads(arch: Any, owner: str) -> int | None:
    if isinstance(arch, dict):
        return _integer(arch.get("num_heads"))
    name = str(arch).lower()
    if name in _MOCO_V3:
        return _MOCO_V3[name]
    from mmpretrain.models import BEiTViT, DeiT3, DistilledVisionTransformer, VisionTransformer

    classes = (BEiTViT, DeiT3, DistilledVisionTransformer, VisionTransformer)
    zoo = next(each.arch_zoo for each in classes if each.__name__ == owner)
    return zoo[name]["num_heads"] if name in zoo else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None
