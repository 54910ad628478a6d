"""Facts about an encoder from a training checkpoint of mmengine: its record, or its config.

Checkpoints from before the record have the config alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.config_text import parse_config
from milan_mm.weights.record import read_record
from milan_mm.weights.stated.facts import HubFacts, oblong, plain_dense
from milan_mm.weights.stated.mmpretrain import NAMED, mmpretrain_facts, vitdet_facts
from milan_mm.weights.statistics import stats_text
from milan_mm.weights.systems import SYSTEMS

# Of a backbone in classification -> what it takes of an image.
_POOLINGS = {"cls_token": "cls", "avg_featmap": "mean", "attn_pool": "pool"}
_PARTS = ("mask_generator", "decoder", "head")
# Of a pretraining: sampling of the patches, decoder, targets -> the method that has these parts.
_METHODS: dict[tuple[str, ...], str] = {
    ("SemanticMaskGenerator", "PromptingDecoder", "CLIPTargetHead"): "MILAN",
    ("UniformMaskGenerator", "MAEDecoder", "PixelTargetHead"): "MAE",
}


def training_facts(checkpoint: Mapping[str, Any], layout: str = "") -> HubFacts:
    """Options of the encoder that the tensors do not show, as the training had them.

    Args:
        checkpoint: See `read_checkpoint`.
        layout: Key of `LAYOUTS` that its encoder comes in.

    Returns:
        Nothing known for files without a config, or without a backbone in it; `foreign` for a
        backbone that is not known here.

    Raises:
        UserError: When the record is damaged, or mmpretrain's backbone has parts that `PlainViT`
            does not have.
    """
    record = read_record(checkpoint)
    if record and record["model"]["backbone"]:  # else the backbone is not ours, see its config
        return _recorded(record)
    meta = checkpoint.get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return HubFacts()
    values = parse_config(text)
    model = values.get("model")
    if not isinstance(model, dict):
        return HubFacts()
    backbone = model.get("backbone")
    if not isinstance(backbone, dict) or not isinstance(backbone.get("type"), str):
        return HubFacts()
    stats = _stats(model.get("data_preprocessor") or values.get("data_preprocessor"))
    if layout == "timm":  # names of many frameworks' models, of which one is known
        is_vitdets = backbone["type"].rpartition(".")[2] == "ViT"
        return replace(vitdet_facts(backbone), stats=stats) if is_vitdets else HubFacts()
    if backbone["type"] != "milan_mm.PlainViT":
        return replace(mmpretrain_facts(backbone, layout == "mmseg"), stats=stats)
    arch = backbone.get("arch")
    arch = ARCHS.get(arch) if isinstance(arch, str) else arch
    return HubFacts(
        num_heads=_of_type(int, arch.get("num_heads")) if isinstance(arch, dict) else None,
        oblong=oblong(backbone.get("img_size")),
        patch_size=_of_type(int, backbone.get("patch_size", 16)),
        norm_eps=_of_type(float, backbone.get("norm_eps", 1e-6)),
        act=_of_type(str, backbone.get("act", "GELU")),
        **_newer(backbone),
        pos_resize=_of_type(str, backbone.get("pos_resize")),
        stats=stats,
        named=NAMED,
    )


def command_line_facts(checkpoint: Mapping[str, Any]) -> HubFacts:
    """Statistics that the command line of BEiT's scripts states, of which it keeps a copy.

    BEiT v2, mc-BEiT and data2vec train by the same scripts.
    """
    args = checkpoint.get("args")
    options = args if isinstance(args, Mapping) else getattr(args, "__dict__", {})
    is_imagenets = options.get("imagenet_default_mean_and_std")
    if not isinstance(is_imagenets, bool):
        return HubFacts()
    return HubFacts(stats="imagenet" if is_imagenets else "half", named="its command line")


def dense_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Windows and relative positions of a `PlainViT` in a detector, as keyword arguments of it.

    Args:
        checkpoint: See `training_facts`.

    Returns:
        Empty for files that state no `PlainViT`.
    """
    record = read_record(checkpoint)
    backbone = record["model"]["backbone"] if record else None
    if not backbone:
        meta = checkpoint.get("meta")
        text = meta.get("cfg") if isinstance(meta, dict) else None
        model = parse_config(text).get("model") if isinstance(text, str) else None
        backbone = model.get("backbone") if isinstance(model, dict) else None
    return plain_dense(backbone) if isinstance(backbone, dict) else {}


def _recorded(record: Mapping[str, Any]) -> HubFacts:
    """What a run says about its encoder, which needs no guesses."""
    backbone, encoder = record["model"]["backbone"], record["encoder"] or {}
    # the grid of the positions: of the bias of BEiT, which no image size decides, if there is one
    grid, patch = backbone["rel_pos_bias_grid"], backbone["patch_size"]
    has_bias = grid and not backbone["with_pos_embed"]
    height, width = [n * patch for n in grid] if has_bias else backbone["img_size"]
    # the mean is that of MILAN's and MAE's own classification; dense tasks read patches alone
    pooling = _POOLINGS.get(backbone["out_type"]) or encoder.get("pooling") or "mean"
    if record["model"]["type"] == "milan_mm.MILAN":
        pooling = "mean"
    system = encoder.get("system") or _method(record)
    statistics = record["model"]["statistics"]
    return HubFacts(
        system=system if system in SYSTEMS else None,
        img_size=height if height == width else None,
        oblong=oblong([height, width]),
        patch_size=patch,
        num_heads=backbone["arch"]["num_heads"],
        norm_eps=float(backbone["norm_eps"]),
        act=backbone["act"],
        num_registers=backbone["num_registers"],
        **_newer(backbone),
        pos_resize=backbone["pos_resize"],
        stats=_stats(statistics and dict(statistics, to_rgb=True)),  # written in RGB, always
        pooling=pooling,
        named="its record",
    )


def _newer(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Newer parts of a `PlainViT`, of which files from before these options say nothing."""
    base, grid = _of_type(float, backbone.get("rope_base")), backbone.get("rope_grid")
    if type(grid) is int:
        grid = (grid, grid)
    return dict(
        norm=_of_type(str, backbone.get("norm")),
        patch_bias=_of_type(bool, backbone.get("patch_bias")),
        pool_heads=_of_type(int, backbone.get("pool_heads")),
        rope_base=base,
        rope_kind=_of_type(str, backbone.get("rope_kind", "dinov3")) if base else None,
        rope_grid=tuple(grid) if isinstance(grid, list | tuple) else None,
    )


def _method(record: Mapping[str, Any]) -> str:
    """The system of a run that began without weights: that of its pretraining, or this package."""
    model = record["settings"].get("model")
    parts = [model.get(n) if isinstance(model, dict) else None for n in _PARTS]
    types = [str(part.get("type")) if isinstance(part, dict) else "" for part in parts]
    return _METHODS.get(tuple(name.removeprefix("milan_mm.") for name in types), "milan_mm")


def _of_type(kind: type, value: Any) -> Any:
    """The value where it is of a kind, an integer being a float as well; else None."""
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else None


def _stats(preprocessor: Any) -> str | None:
    if not isinstance(preprocessor, dict) or not {"mean", "std"} <= preprocessor.keys():
        return None
    by_channel = [preprocessor["mean"], preprocessor["std"]]
    if not all(isinstance(values, list | tuple) for values in by_channel):
        return None
    if not preprocessor.get("to_rgb", preprocessor.get("bgr_to_rgb", False)):
        by_channel = [list(values)[::-1] for values in by_channel]
    numbers = [value for values in by_channel for value in values]
    if not all(isinstance(value, int | float) for value in numbers):
        return None
    mean, std = ([value / 255 for value in values] for values in by_channel)
    return stats_text(mean, std, f"data_preprocessor of {NAMED}")
