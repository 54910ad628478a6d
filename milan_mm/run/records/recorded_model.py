"""The model that a checkpoint's record describes, for `tools/test.py` and `--resume`.

What `--weights` set in the training is set again, and so are options of the training's command line
that the recipe knows nothing of. What contradicts the command at hand is refused.
"""

from collections.abc import Collection
from typing import Any

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.checks.files import check_data
from milan_mm.run.config_nodes import config_nodes
from milan_mm.run.own_data.detection import leave_masks_out
from milan_mm.run.own_data.settings import set_num_classes
from milan_mm.run.records.differences import Kind, Use, differences, is_fixed, leaves, value_of
from milan_mm.run.records.record import Recorded, keep_origin, record_of
from milan_mm.text import shorten_value
from milan_mm.weights.record import PLAIN_VIT, statistics

# How earlier versions, which wrote no record, resized every position table.
OLD_RULE = "bicubic-antialias"
_WHERE = ("data_preprocessor", "model.data_preprocessor")


def take_model(
    cfg: Config, record: dict[str, Any], source: str, use: Use, fixed: Collection[str] = ()
) -> list[str]:
    """Make a config's model the one of a checkpoint, in place.

    Args:
        record: Of the checkpoint. source: Its file, for messages.
        use: 'test' or 'resume'.
        fixed: Dotted names that the user set, which must agree with the record.

    Returns:
        At most one line for the log: what was taken.

    Raises:
        UserError: When model and record contradict each other.
    """
    encoder = record["encoder"] or {}
    before = record_of(cfg)
    if use == "resume":
        _refuse_other_weights(before["encoder"], record["encoder"], source)
    _set_fields(cfg, encoder.get("fields", {}), fixed)
    _refuse(cfg, record, source, use, fixed)
    _set_rest(cfg, record, use, fixed)
    if encoder:
        keep_origin(cfg, encoder=encoder)
    if encoder and "init_cfg" not in cfg.model.backbone:
        # for a training from this config as the run writes it; here the checkpoint has all tensors
        cfg.model.backbone.init_cfg = dict(
            type="milan_mm.EncoderWeights", checkpoint=encoder["source"], **encoder["reading"]
        )
    taken = {d.field: d.now for d in differences(before, record_of(cfg), use) if _is_model(d.field)}
    if not taken:
        return []
    shown = ", ".join(
        f"{name.rpartition('.')[2]}={shorten_value(value)}" for name, value in taken.items()
    )
    whose = f", pretrained as {encoder['system']} ({encoder['source']})" if encoder else ""
    return [f"{source}: the model takes {shown} from the record of its training{whose}"]


def check_own_data(cfg: Config, found: Recorded, fixed: Collection[str] = ()) -> None:
    """Refuse a test that forgets the `--data DIR` of its training, before data are looked at.

    The recipe's own images may be what is meant, if they are there and of as many classes.

    Args:
        fixed: Dotted names that the user set, which may name the images in another way.

    Raises:
        UserError: With the folder of the training.
    """
    record, now = found.record, record_of(cfg)
    if not record or "data" not in record["options"] or "data" in now["options"]:
        return
    kept, here = record["model"], now["model"]
    if kept["type"] != here["type"]:
        return  # of another recipe, which is refused with both values
    if any(name.startswith(("test_dataloader", "val_dataloader")) for name in fixed):
        return
    # a number that the user sets is not that of the recipe's images
    if kept["num_classes"] == here["num_classes"] and not is_fixed("model.num_classes", fixed):
        try:
            check_data(cfg, ("test_dataloader",))
        except UserError:
            pass
        else:
            return
    number = len(found.classes) if found.classes else kept["num_classes"]
    classes = f" on {number} class{'es' if number > 1 else ''}" if number else ""
    raise UserError(
        f"{found.path} was trained with --data {record['options']['data']}{classes}: pass "
        "--data DIR"
    )


def judged_otherwise(cfg: Config, record: dict[str, Any], source: str) -> list[str]:
    """Say what of a test is not as in the validation of the training, by the same recipe.

    Such options are a choice: images of another size, another threshold. Another recipe differs on
    purpose.

    Returns:
        At most one line for the log.
    """
    now = record_of(cfg)
    if record["recipe_hash"] != now["recipe_hash"]:
        return []
    kept, here = (_judging(found["settings"]) for found in (record, now))
    fields = dict.fromkeys([*leaves(kept), *leaves(here)])
    pairs = {name: (value_of(kept, name), value_of(here, name)) for name in fields}
    other = [
        f"{n} is {shorten_value(a)} there, {shorten_value(b)} here"
        for n, (a, b) in pairs.items()
        if a != b
    ]
    if not other:
        return []
    more = f", and {len(other) - 2} more" if len(other) > 2 else ""
    size, given = (found["options"].get("img_size") for found in (record, now))
    option = f"; the training had --img-size {size}" if size and not given else ""
    return [
        f"{source}: tested otherwise than in the validation of its training: "
        f"{'; '.join(other[:2])}{more}{option}"
    ]


def _judging(settings: dict[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a test besides weights and images."""
    nodes = config_nodes(settings.get("test_dataloader"))
    pipelines = [node["pipeline"] for _, node in nodes if "pipeline" in node]
    model = settings.get("model")
    return dict(
        pipeline=pipelines[0] if len(pipelines) == 1 else None,
        test_cfg=model.get("test_cfg") if isinstance(model, dict) else None,
    )


def _refuse_other_weights(
    now: dict[str, Any] | None, recorded: dict[str, Any] | None, source: str
) -> None:
    """Refuse a pretrained encoder that is not the one from which the run had started."""
    if not now or (recorded and all(_same(now[n], recorded[n]) for n in ("sha256", "system"))):
        return
    before = f"{recorded['system']}, {recorded['source']}" if recorded else "no pretrained encoder"
    raise UserError(
        f"{source}: its run started from {before} and this one from {now['system']}, "
        f"{now['source']}: leave out --weights, which a resumed run does not need"
    )


def _same(now: str | None, recorded: str | None) -> bool:
    """Whether two checksums or names agree, as far as they are known."""
    return now == recorded or None in (now, recorded)


def take_old_rule(cfg: Config, fixed: Collection[str] = ()) -> list[str]:
    """Resize positions as the training of a checkpoint without a record did, in place.

    This matters in detection and segmentation, where a table is resized to every image.

    Args:
        fixed: Dotted names that the user set, which are left alone, as is a rule in the config.

    Returns:
        At most one line for the log.
    """
    backbone = cfg.model.get("backbone") or {}
    has_table = backbone.get("type") == PLAIN_VIT and backbone.get("with_pos_embed", True)
    if not has_table or cfg.get("default_scope") not in ("mmdet", "mmseg"):
        return []
    if "pos_resize" in backbone or is_fixed("model.backbone.pos_resize", fixed):
        return []
    backbone["pos_resize"] = OLD_RULE
    return [f"positions are resized as in that version: model.backbone.pos_resize='{OLD_RULE}'"]


def _set_fields(cfg: Config, recorded: dict[str, Any], fixed: Collection[str]) -> None:
    """What `--weights` set in the training, where the user set nothing."""
    for name, value in recorded.items():
        parts = name.split(".")
        owner = cfg
        for part in parts[:-1]:
            owner = owner.get(part) or {}
        if owner and not is_fixed(name, fixed):
            owner[parts[-1]] = value


def _refuse(
    cfg: Config, record: dict[str, Any], source: str, use: Use, fixed: Collection[str]
) -> None:
    now = record_of(cfg)
    found = differences(record, now, use, fixed)
    wrong = [d for d in found if d.kind is Kind.CONTRADICTION and _is_model(d.field)]
    if not wrong:
        return
    if any(is_fixed(d.field, fixed) for d in wrong):
        remedy = "leave that option out"
    elif record["recipe_hash"] == now["recipe_hash"]:
        remedy = "give the --cfg-options of the training here too"
    elif record["recipe"] != now["recipe"]:
        remedy = f"it belongs to the recipe {record['recipe']}"
    else:
        remedy = f"{record['recipe']} has changed since: take it as it was"
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    raise UserError(f"{source}: {wrong[0]}{more}: {remedy}")


def _set_rest(cfg: Config, record: dict[str, Any], use: Use, fixed: Collection[str]) -> None:
    """What options of the training's command line had set in this recipe."""
    model = record["model"]
    for difference in differences(record, record_of(cfg), use, fixed):
        if difference.kind is not Kind.KNOWN:
            continue
        _, _, name = difference.field.partition(".")
        if name.startswith("backbone."):
            option = name.removeprefix("backbone.").partition(".")[0]
            cfg.model.backbone[option] = model["backbone"][option]
        elif name.startswith("statistics.") and model["statistics"]:
            _set_statistics(cfg, model["statistics"])
        elif name == "num_classes" and model["num_classes"]:
            for part in (cfg.model, cfg.get("data_preprocessor")):
                set_num_classes(part, model["num_classes"])
        elif name == "masks" and not model["masks"]:
            leave_masks_out(cfg)


def _set_statistics(cfg: Config, recorded: dict[str, Any]) -> None:
    for place in _WHERE:
        owner = cfg.model if place.startswith("model.") else cfg
        preprocessor = owner.get("data_preprocessor")
        if now := statistics(preprocessor):
            order = slice(None) if now["rgb"] else slice(None, None, -1)
            preprocessor.update({name: recorded[name][order] for name in ("mean", "std")})


def _is_model(field: str) -> bool:
    return field.startswith("model.")
