"""`--weights`: the config learns from the file what its encoder has to be and to be shown."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.configs import list_configs
from milan_mm.errors import MissingFileError, UserError
from milan_mm.registry import MODELS
from milan_mm.run.records.record import ORIGIN, keep_origin
from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.loading import POOL_OPTIONS
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.record import ENCODER_FIELDS, PLAIN_VIT, plain
from milan_mm.weights.sizes import Size
from milan_mm.weights.statistics import byte_stats

LOAD_REPORT = "encoder_weights.json"  # in the work directory


def set_encoder_weights(
    cfg: Config, weights: str | Encoder, fixed: Iterable[str] = (), **options: Any
) -> list[str]:
    """Let the backbone start from a pretrained encoder, and be the one that the file needs.

    Options that no recipe sets (`norm_eps`, `layer_scale`, `rel_pos_bias_grid` ...) come from the
    file, and so do the statistics that images are normalised by. Pretraining keeps its own
    statistics, which its teacher shares. The file is read here to fail early.

    Args:
        weights: A file, see `read_encoder`, or what was read from it; tensors are not needed.
        fixed: Dotted names that the user set (`--cfg-options`), which are left alone.
        options: Of `read_encoder`, for a file.

    Returns:
        Lines for the log about what was set.

    Raises:
        MissingFileError, UserError: When there is no file, no encoder in it, or no backbone.
    """
    if "backbone" not in cfg.model:
        raise UserError(f"--weights: {cfg.filename} has no model.backbone to load an encoder into")
    _check_kind(cfg)
    encoder = weights if isinstance(weights, Encoder) else read_encoder(weights, **options)
    _check_size(cfg, encoder)
    if "decoder" in cfg.model:
        _check_pretraining(encoder)
    _check_class_token(cfg, encoder)
    backbone, before = cfg.model.backbone, _fields(cfg)
    backbone.init_cfg = dict(
        type="milan_mm.EncoderWeights", checkpoint=encoder.source, **encoder.options
    )
    notes = _set_options(cfg, encoder) + _set_patches(cfg, encoder, set(fixed))
    _set_decay(cfg, backbone)
    if "head" not in cfg.model or "teacher" not in (cfg.model.head or {}):
        notes += _set_stats(cfg, encoder, set(fixed))
    after = _fields(cfg)
    changed = {n: after.get(n) for n in ENCODER_FIELDS if before.get(n) != after.get(n)}
    facts = dict(
        source=encoder.source,
        sha256=None,
        system=encoder.system,
        layout=encoder.layout,
        stats=plain(encoder.stats),
        pooling=encoder.pooling,
        reading=dict(encoder.options),
        fields=changed,
    )
    keep_origin(cfg, encoder=facts)
    return notes


def _check_kind(cfg: Config) -> None:
    """Refuse a backbone that is not a `PlainViT`, which would fail once all is built."""
    name = cfg.model.backbone.get("type")
    if name == PLAIN_VIT:
        return
    with MODELS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        kind = name if isinstance(name, type) else registry.get(str(name))
    if kind is not None and not issubclass(kind, MODELS.get(PLAIN_VIT)):
        raise UserError(
            f"--weights fills a plain ViT, and model.backbone of {cfg.filename} is a "
            f"{kind.__name__}: set model.backbone.init_cfg=dict(type='Pretrained', "
            "checkpoint=FILE) in the config"
        )


def _check_size(cfg: Config, encoder: Encoder) -> None:
    """Refuse an encoder of another size than the recipe's, and name the recipe of that size."""
    own, ours = Size.of(encoder.settings["arch"]), Size.of(cfg.model.backbone.get("arch", ""))
    if not own or not ours or own == ours:
        return
    recipe = Path(cfg.filename or "config")
    start = f"{recipe.parent.name}/{recipe.stem.partition('vit-')[0]}vit-{own.name}-"
    fitting = [name for name in list_configs() if own.name and name.startswith(start)]
    remedy = (
        f"take {' or '.join(fitting)}"
        if fitting
        else "set model.backbone.arch and the widths of neck and head in a config of your own, or "
        "let tools/evaluate.py fit the recipe"
    )
    raise UserError(f"{encoder.source} has {own}, '{recipe.stem}' is for {ours}: {remedy}")


def _check_class_token(cfg: Config, encoder: Encoder) -> None:
    """Refuse a probe of the class token for an encoder that has none, and say what it has."""
    if encoder.settings["with_cls_token"] or cfg.model.backbone.get("out_type") != "cls_token":
        return
    own = "attn_pool" if encoder.settings["pool_heads"] else "avg_featmap"
    what = dict(attn_pool="its own attention pooling", avg_featmap="the mean of its patches")[own]
    raise UserError(
        f"{encoder.source} has no class token, which {Path(cfg.filename or 'the config').stem} "
        f"probes: take {what}, --cfg-options model.backbone.out_type={own}; finetune it; or judge "
        "it by tools/evaluate.py --tasks linear-grid"
    )


def _check_pretraining(encoder: Encoder) -> None:
    """Refuse an encoder that needs the patches that pretraining hides, or has not all it needs.

    Raises:
        UserError: Naming the part.
    """
    settings = encoder.settings
    reasons = {
        "has relative position bias, which needs all patches of an image: pretraining cannot "
        "continue from it; take an encoder with a position table or rotary positions": settings[
            "rel_pos_bias_grid"
        ],
        "has no class token, which pretraining needs: take an encoder with one": not settings[
            "with_cls_token"
        ],
        "has no norm after its last block, which pretraining needs: take an encoder with one, e.g. "
        "as its pretraining left it": not settings["final_norm"],
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UserError(f"{encoder.source} {reason}")


def _set_options(cfg: Config, encoder: Encoder) -> list[str]:
    """Options that the file needs and the recipe leaves at the default of `PlainViT`."""
    backbone, settings = cfg.model.backbone, encoder.settings
    needed = {n: settings[n] for n, default in DEFAULTS.items() if settings[n] != default}
    if not backbone.get("with_cls_token", True):
        needed.pop("num_registers", None)  # windows have no place for them
    if backbone.get("out_type") not in ("attn_pool", "raw"):  # it builds no pooling
        needed = {n: value for n, value in needed.items() if n not in POOL_OPTIONS}
    if not settings["with_cls_token"]:
        needed["with_cls_token"] = False
    if not settings["final_norm"]:
        needed["final_norm"] = False
    changed = {name: value for name, value in needed.items() if name not in backbone}
    backbone.update(changed)
    if changed.keys() & {"rel_pos_bias_grid", "rope_base"} and backbone.get("rel_pos_grid"):
        backbone.rel_pos_grid = changed["rel_pos_grid"] = None  # one kind of them is enough
    if not changed:
        return []
    options = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return [f"--weights: model.backbone takes {options} from {encoder.source}"]


def _set_patches(cfg: Config, encoder: Encoder, fixed: set[str]) -> list[str]:
    """Patches and positions of another size than the recipe's.

    Where one vector per image is wanted, the encoder keeps its own patches. The pyramids, windows
    and grids of dense recipes are laid out for the recipe's patches, to which those of the file are
    resampled on loading; positions keep the grid of the file and are resized to each image, once.
    """
    backbone, settings = cfg.model.backbone, encoder.settings
    own, wanted = settings["patch_size"], backbone.get("patch_size", 16)
    pooled = backbone.get("out_type") in ("cls_token", "avg_featmap", "attn_pool")
    img_size = backbone.get("img_size", 224)
    sides = tuple(img_size) if isinstance(img_size, Iterable) else (img_size, img_size)
    fits = all(side % own == 0 for side in sides)
    notes = []
    if own != wanted and pooled and fits and "model.backbone.patch_size" not in fixed:
        backbone.patch_size = own
        notes.append(f"model.backbone takes patch_size={own} from {encoder.source}")
    elif own != wanted:
        notes.append(
            f"the patch embedding of {encoder.source} is resampled from patches of {own} to "
            f"{wanted} pixels, those of the recipe"
        )
    dense = cfg.get("default_scope") in ("mmdet", "mmseg")
    if dense and settings["with_pos_embed"] and "model.backbone.img_size" not in fixed:
        side = settings.get("img_size", 0) // own * wanted  # pixels; 0 for a table of no square
        if side and sides != (side, side):
            backbone.img_size = side
            notes.append(
                f"positions keep the grid of {encoder.source}: img_size={side} instead of "
                f"{img_size}, unless --cfg-options model.backbone.img_size=N resizes them"
            )
    return [f"--weights: {note}" for note in notes]


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
    mean, std = byte_stats(encoder.stats)
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


def _fields(cfg: Config) -> dict[str, Any]:
    """The fields that a file may set, as far as they are set, as plain values."""
    found = {}
    for name in ENCODER_FIELDS:
        node: Any = cfg
        for part in name.split("."):
            node = node.get(part) if isinstance(node, (dict, Config)) else None
        if node is not None:
            found[name] = plain(node)
    return found


def identify_weights(cfg: Config) -> None:
    """Note the checksum of the file that the encoder starts from, if it is there."""
    encoder = (cfg.get(ORIGIN) or {}).get("encoder")
    if encoder and encoder["sha256"] is None:
        with suppress(MissingFileError):
            encoder["sha256"] = file_sha256(encoder["source"])


def set_load_report(cfg: Config) -> None:
    """Have the load report written into the work directory, whose name must be known."""
    init_cfg = (cfg.model.get("backbone") or {}).get("init_cfg") or {}
    if init_cfg.get("type") == "milan_mm.EncoderWeights":
        init_cfg.setdefault("report", f"{cfg.work_dir}/{LOAD_REPORT}")
