"""Facts from the `model.backbone` of mmpretrain or mmsegmentation, as a training states it."""

from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.stated.facts import HubFacts, oblong

NAMED = "the config in it"
# Backbones that are plain ViTs.
BACKBONES = (
    "VisionTransformer", "MAEViT", "MILANViT", "MFFViT", "MoCoV3ViT", "MaskFeatViT",
    "DistilledVisionTransformer", "DeiT3", "BEiTViT", "BEiTPretrainViT", "CAEPretrainViT",
)  # fmt: skip
# Those of mmsegmentation under names of their own; its VisionTransformer is told by its tensors.
MMSEG_BACKBONES = ("MAE", "BEiT")
# Names of sizes there, and what they abbreviate -> attention heads. Written here, since the encoder
# on its own imports nothing of mmpretrain; a test compares.
_HEADS = {
    ("s", "small"): 8,
    ("b", "base"): 12,
    ("l", "large"): 16,
    ("h", "huge"): 16,
    ("eva-g", "eva-giant"): 16,
    ("deit-t", "deit-tiny"): 3,
    ("deit-s", "deit-small"): 6,
    ("deit-b", "deit-base"): 12,
    ("dinov2-s", "dinov2-small"): 6,
    ("dinov2-g", "dinov2-giant"): 24,
    ("mocov3-s", "mocov3-small"): 12,
}
_DEIT3_HEADS = {("s", "small"): 6, ("m", "medium"): 8}
_ACTS = ("GELU", "QuickGELU")
_RESIZING = ("bicubic", "bilinear", None)  # None: it could not be parsed


def mmpretrain_facts(backbone: dict, is_mmsegs: bool = False) -> HubFacts:
    """Options of the encoder that a backbone of mmpretrain or mmsegmentation has.

    Args:
        backbone: Literals only; what could not be parsed is None.
        is_mmsegs: Whether its tensors are those of mmsegmentation's own VisionTransformer.

    Raises:
        UserError: For an activation, a norm or a use of the class token that `PlainViT` does not
            have.
    """
    kind = str(backbone["type"]).rpartition(".")[2]
    if is_mmsegs or kind in MMSEG_BACKBONES:
        return _mmsegs_facts(backbone)
    if kind not in BACKBONES:
        return HubFacts(
            foreign=f"{NAMED} says model.backbone.type='{backbone['type']}'", named=NAMED
        )
    layers = backbone.get("layer_cfgs") or {}
    layers = [each or {} for each in (layers if isinstance(layers, list) else [layers])]
    norm = backbone.get("norm_cfg", dict(eps=1e-6))  # the classes' own default, also of blocks
    acts = {_act(layer.get("act_cfg")) for layer in layers}
    norms = {_eps(each) for each in (norm, *(layer.get("norm_cfg", norm) for layer in layers))}
    for name, values in (("act_cfg", acts), ("norm_cfg", norms)):
        if len(values) > 1:
            listed = " and ".join(sorted(map(str, values)))
            raise UserError(f"{NAMED} says {name} of {listed}: parts that differ are not supported")
    rule = backbone.get("interpolate_mode", "bicubic")
    _check_rule(rule)
    return HubFacts(
        num_heads=_num_heads(backbone.get("arch", "base"), kind),
        oblong=oblong(backbone.get("img_size")),
        patch_size=_integer(backbone.get("patch_size", 16)),
        norm_eps=norms.pop(),
        act=acts.pop(),
        patch_bias=_patch_bias(backbone.get("patch_cfg")),
        pos_resize=rule,
        named=NAMED,
    )


def _mmsegs_facts(backbone: dict) -> HubFacts:
    """Sizes stand in the backbone itself there, and one norm serves all."""
    if not backbone.get("with_cls_token", True):
        raise UserError(
            f"{NAMED} says with_cls_token=False: the class token of the file took no part, and it "
            "cannot be left out here"
        )
    rule = backbone.get("interpolate_mode", "bicubic")
    _check_rule(rule)
    size = backbone.get("img_size", 224)
    return HubFacts(
        oblong=oblong(size),
        patch_size=_integer(backbone.get("patch_size", 16)),
        num_layers=_integer(backbone.get("num_layers", 12)),
        num_heads=_integer(backbone.get("num_heads", 12)),
        norm_eps=_eps(backbone.get("norm_cfg", dict(type="LN"))),
        act=_act(backbone.get("act_cfg")),
        pos_resize=rule,
        named=NAMED,
    )


def vitdet_facts(backbone: dict) -> HubFacts:
    """Options of the encoder in mmdetection's ViTDet; its tables show its windows.

    Raises:
        UserError: See `mmpretrain_facts`.
    """
    return HubFacts(
        patch_size=_integer(backbone.get("patch_size", 16)),
        num_layers=_integer(backbone.get("depth", 12)),
        num_heads=_integer(backbone.get("num_heads", 12)),
        norm_eps=_eps(backbone.get("norm_cfg", dict(type="LN", eps=1e-6))),
        act=_act(backbone.get("act_cfg")),
        named=NAMED,
    )


def _check_rule(rule: Any) -> None:
    if rule not in _RESIZING:
        raise UserError(
            f"{NAMED} says interpolate_mode={rule!r}, supported are bicubic and bilinear"
        )


def _act(config: Any) -> str:
    if not isinstance(config, dict):
        return "GELU"
    kind = str(config.get("type")).rpartition(".")[2]  # without its scope
    if kind == "GELU" and config.get("approximate") == "tanh":
        return "GELUTanh"
    if kind not in _ACTS:
        raise UserError(f"{NAMED} says act_cfg={kind!r}, supported are {', '.join(_ACTS)}")
    return kind


def _patch_bias(config: Any) -> bool | None:
    return False if isinstance(config, dict) and config.get("bias") is False else None


def _eps(config: Any) -> float | None:
    if not isinstance(config, dict):
        return None
    if config.get("type", "LN") not in ("LN", "LayerNorm"):
        raise UserError(f"{NAMED} says norm_cfg={config}, supported is LN")
    return config.get("eps", 1e-5)  # build_norm_layer's


def _num_heads(arch: Any, kind: str) -> int | None:
    if isinstance(arch, dict):
        return _integer(arch.get("num_heads"))
    tables = _HEADS | _DEIT3_HEADS if kind == "DeiT3" else _HEADS
    return next((heads for names, heads in tables.items() if str(arch).lower() in names), None)


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None
