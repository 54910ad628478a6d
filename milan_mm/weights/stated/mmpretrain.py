"""Facts from the `model.backbone` of mmpretrain, as a training's own config states it."""

from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.stated.facts import HubFacts, oblong

NAMED = "the config in it"
# Backbones that are plain ViTs.
BACKBONES = (
    "VisionTransformer", "MAEViT", "MILANViT", "MFFViT", "MoCoV3ViT", "MaskFeatViT",
    "DistilledVisionTransformer", "DeiT3", "BEiTViT", "BEiTPretrainViT", "CAEPretrainViT",
)  # fmt: skip
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
    if rule not in _RESIZING:
        raise UserError(
            f"{NAMED} says interpolate_mode={rule!r}, supported are bicubic and bilinear"
        )
    return HubFacts(
        num_heads=_num_heads(backbone.get("arch", "base"), kind),
        oblong=oblong(backbone.get("img_size")),
        patch_size=_integer(backbone.get("patch_size", 16)),
        norm_eps=norms.pop(),
        act=acts.pop(),
        pos_resize=rule,
        named=NAMED,
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
