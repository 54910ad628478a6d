"""`--weights`: the config learns from the file what its encoder has to be and to be shown."""

from collections.abc import Iterable
from typing import Any

from mmengine.config import Config

from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.systems import BYTE_STATS


def set_encoder_weights(cfg: Config, weights: str, fixed: Iterable[str] = ()) -> list[str]:
    """Let the backbone start from a pretrained encoder, and be the one that the file needs.

    Options that no recipe sets (`norm_eps`, `layer_scale`, `rel_pos_bias_grid` ...) come from the
    file, and so do the statistics that images are normalised by. Pretraining keeps its own
    statistics, which its teacher shares. The file is read here to fail early.

    Args:
        weights: See `read_encoder`.
        fixed: Dotted names that the user set (`--cfg-options`), which are left alone.

    Returns:
        Lines for the log about what was set.

    Raises:
        FileNotFoundError, ValueError: When there is no file, no encoder in it, or no backbone.
    """
    if "backbone" not in cfg.model:
        raise ValueError(f"--weights: {cfg.filename} has no model.backbone to load an encoder into")
    encoder = read_encoder(weights)
    backbone = cfg.model.backbone
    backbone.init_cfg = dict(type="milan_mm.EncoderWeights", checkpoint=weights)
    notes = _set_options(backbone, encoder)
    _set_decay(cfg, backbone)
    if "head" not in cfg.model or "teacher" not in (cfg.model.head or {}):
        notes += _set_stats(cfg, encoder, set(fixed))
    return notes


def _set_options(backbone: Any, encoder: Encoder) -> list[str]:
    """Options that the file needs and the recipe leaves at the default of `PlainViT`."""
    settings = encoder.settings
    needed = {n: settings[n] for n, default in DEFAULTS.items() if settings[n] != default}
    if not backbone.get("with_cls_token", True):
        needed.pop("num_registers", None)  # windows have no place for them
    if not settings["with_cls_token"]:
        needed["with_cls_token"] = False
    changed = {name: value for name, value in needed.items() if name not in backbone}
    backbone.update(changed)
    if changed.keys() & {"rel_pos_bias_grid", "rope_base"} and backbone.get("rel_pos_grid"):
        backbone.rel_pos_grid = changed["rel_pos_grid"] = None  # one kind of them is enough
    if not changed:
        return []
    options = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return [f"--weights: model.backbone takes {options} from {encoder.source}"]


def _set_decay(cfg: Config, backbone: Any) -> None:
    """Exempt from weight decay what the backbone has; registers are treated as the class token."""
    rules = cfg.get("optim_wrapper", {}).get("paramwise_cfg") or {}
    names = rules.get("no_decay_names")
    if not isinstance(names, list):
        return
    absent = set() if backbone.get("with_pos_embed", True) else {"pos_embed"}
    if not backbone.get("with_cls_token", True):
        absent.add("cls_token")
    kept = [name for name in names if name not in absent]
    if backbone.get("num_registers") and "cls_token" in kept:
        kept.append("register_tokens")
    rules["no_decay_names"] = kept


def _set_stats(cfg: Config, encoder: Encoder, fixed: set[str]) -> list[str]:
    """Mean and standard deviation of all data preprocessors that have them."""
    mean, std = BYTE_STATS[encoder.stats]
    places = {"data_preprocessor": cfg, "model.data_preprocessor": cfg.model}
    notes = []
    for name, owner in places.items():
        preprocessor = owner.get("data_preprocessor")
        if not preprocessor or not {"mean", "std"} <= preprocessor.keys():
            continue
        if {f"{name}.mean", f"{name}.std"} & fixed:
            continue
        to_rgb = preprocessor.get("to_rgb", preprocessor.get("bgr_to_rgb", False))
        new = dict(mean=mean, std=std) if to_rgb else dict(mean=mean[::-1], std=std[::-1])
        if any(list(preprocessor[key]) != value for key, value in new.items()):
            preprocessor.update(new)
            notes = [f"--weights: images are normalised by the statistics '{encoder.stats}'"]
    if notes and "stats" in encoder.assumed:
        notes[0] += f", assumed: {encoder.assumed['stats']}"
    return notes


def set_load_report(cfg: Config) -> None:
    """Have the load report written into the work directory, whose name must be known."""
    init_cfg = (cfg.model.get("backbone") or {}).get("init_cfg") or {}
    if init_cfg.get("type") == "milan_mm.EncoderWeights":
        init_cfg.setdefault("report", f"{cfg.work_dir}/encoder_weights.json")
