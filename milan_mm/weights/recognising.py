"""Any pretrained plain ViT as an encoder of this package."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from milan_mm.errors import MissingFileError, UserError
from milan_mm.weights.contradictions import (
    check_config,
    check_img_size,
    check_system,
    is_settled_by_args,
)
from milan_mm.weights.encoder import Encoder, Stated, read_stated, reconcile
from milan_mm.weights.finding import find_encoder
from milan_mm.weights.hub import local_path, read_hub_facts
from milan_mm.weights.names import is_on_hub, nearest, shipped
from milan_mm.weights.position_rows import copy_first_norm, fit_positions, mask_key_bias
from milan_mm.weights.reading import read_checkpoint, read_metadata
from milan_mm.weights.renaming import rename
from milan_mm.weights.settings import dense_of_tables, infer_settings
from milan_mm.weights.stated.facts import HubFacts
from milan_mm.weights.stated.training import command_line_facts, dense_options, training_facts
from milan_mm.weights.systems import SYSTEMS, System, guess_system

# What a user can say about a file that does not state it; options of every tool with --weights.
READ_OPTIONS = ("layout", "system", "num_heads", "student")

# Layouts in which frameworks of OpenMMLab write the config of a training.
_TRAINED = ("mmpretrain", "mmpretrain-beit", "mmseg", "timm")


def given_options(arguments: object) -> dict[str, Any]:
    """Those of `READ_OPTIONS` that a command line holds, for `read_encoder`."""
    return _given({name: getattr(arguments, name) for name in READ_OPTIONS})


def read_encoder(
    path: str | Path,
    layout: str | None = None,
    system: str | None = None,
    num_heads: int | None = None,
    student: bool = False,
    trust_pickle: bool = False,
) -> Encoder:
    """Read a weights file of any layout that is known here.

    Args:
        path: A file, or a folder of Hugging Face or timm with its config.json, see
            `read_checkpoint`; or a name of `list_encoders`, or another one on the hub, see
            `local_path`.
        layout: See `find_encoder`.
        system: Key of `SYSTEMS`, where the most probable one is not the right one.
        num_heads: Of the attention, where neither the file nor its width and depth settle it.
        student: See `find_encoder`.
        trust_pickle: See `read_checkpoint`.

    Raises:
        MissingFileError, UserError: When the file holds no complete encoder in one layout.
    """
    known = shipped(path)
    if known:
        path = known.file
        system = system or known.options.get("system")
        num_heads = num_heads or known.options.get("num_heads")
    elif not Path(path).exists() and (hint := nearest(path)) and not is_on_hub(path):
        raise MissingFileError(f"weights file '{path}' does not exist: {hint}")
    path = local_path(path)
    facts = read_hub_facts(path)
    checkpoint = read_checkpoint(path, trust_pickle=trust_pickle)
    metadata = read_metadata(path)
    encoder = recognise(checkpoint, path, layout, system, num_heads, student, metadata, facts)
    if known and known.stats:
        assumed = {name: why for name, why in encoder.assumed.items() if name != "stats"}
        return replace(encoder, stats=known.stats, assumed=assumed)
    return encoder


def recognise(
    checkpoint: Mapping[str, Any],
    path: str | Path,
    layout: str | None = None,
    system: str | None = None,
    num_heads: int | None = None,
    student: bool = False,
    metadata: Mapping[str, str] | None = None,
    facts: HubFacts | None = None,
) -> Encoder:
    """As `read_encoder`, of content that was read already.

    Args:
        metadata: Of a safetensors file; an encoder file of this package states its settings there.
        facts: Of a config in the same folder; without any, what a training wrote is read.
    """
    if system is not None and system not in SYSTEMS:
        raise UserError(f"system '{system}' is unknown: choose from {', '.join(SYSTEMS)}")
    facts = facts or HubFacts()
    _refuse_foreign(path, facts, system)
    found = find_encoder(checkpoint, path, layout, student)
    stated = read_stated(metadata or {}, path)
    if found.layout == "beit" and facts == HubFacts():
        facts = command_line_facts(checkpoint)
    if found.layout in _TRAINED and facts == HubFacts():
        facts = training_facts(checkpoint, found.layout)
        _refuse_foreign(path, facts, system)
    is_rotary = facts.rope_base is not None or (
        stated is not None and stated.settings.get("rope_base") is not None
    )
    norm = stated.settings.get("norm") if stated else facts.norm
    patch_bias = (stated.settings.get("patch_bias") if stated else facts.patch_bias) is not False
    renamed = rename(found, is_rotary, facts.final_norm is not False, norm, patch_bias)
    renamed = mask_key_bias(found, fit_positions(found, renamed))
    renamed = copy_first_norm(found, renamed)
    named = system or (stated.system if stated else facts.system)
    row = SYSTEMS[named or guess_system(found)]
    if stated and row.name != stated.system:
        stated = _named_anew(stated, row)
    if stated:  # a file of our own
        own = stated.settings
        rope = {name: own.get(name) for name in ("rope_base", "rope_grid")}
        if rope["rope_base"] is not None:
            rope["rope_kind"] = own.get("rope_kind", "dinov3")
        own_heads = own.get("arch", {}).get("num_heads")
        facts = replace(
            facts,
            num_heads=own_heads,
            norm=norm,
            pool_heads=own.get("pool_heads"),
            named="its metadata",
            **rope,
        )
    inferred = infer_settings(found, renamed, facts, row, num_heads)
    check_config(found, renamed, inferred, facts, row)
    if system:
        check_system(found.path, inferred, row)
    if stated:
        settings = reconcile(inferred, stated, found.path)
        stats, pooling, assumed = stated.stats, stated.pooling, stated.assumed
        if "act" not in stated.settings and "act" in inferred.assumed:
            assumed = assumed | dict(act=inferred.assumed["act"])
    else:
        check_img_size(found, renamed, inferred, facts, guessed=None if named else row)
        settings = inferred.values
        stats, pooling, notes = _origin(row, facts, system is not None, settings)
        if row.twin and not named and not is_settled_by_args(checkpoint, found.path, row):
            notes["positions"] = f"as {row.name}'s: {row.twin}"
        assumed = inferred.assumed | notes
        if named is None and settings["with_pos_embed"] and not facts.pos_resize:
            assumed |= _resizing(found.layout, row, settings["pos_resize"])
    return Encoder(
        source=found.path,
        layout=found.layout,
        state_dict=renamed.tensors,
        settings=settings,
        system=row.name,
        stats=stats,
        pooling=pooling,
        assumed=assumed,
        dropped=renamed.dropped,
        added=renamed.added,
        theirs=renamed.theirs,
        options=_given(dict(layout=layout, system=system, num_heads=num_heads, student=student)),
        dense=stated.dense
        if stated
        else dense_options(checkpoint) or dense_of_tables(found.path, renamed.tensors),
    )


def _refuse_foreign(path: str | Path, facts: HubFacts, system: str | None) -> None:
    """Refuse an unknown model that a config names, unless the user names its system."""
    if facts.foreign and system is None:
        raise UserError(
            f"{path}: {facts.foreign}, a model that is not known here. If it is a plain ViT, say "
            "which: --system, and --num-heads; then the tensors alone count"
        )


def _named_anew(stated: Stated, row: System) -> Stated:
    """What an export had only assumed of another system follows the one that the user names."""
    known = {n: v for n, v in vars(stated).items() if n not in stated.assumed}
    facts = HubFacts(stats=known.get("stats"), pooling=known.get("pooling"))
    settings = dict(with_cls_token=True, pool_heads=0) | stated.settings
    stats, pooling, notes = _origin(row, facts, True, settings)
    open_ = stated.assumed.keys() & {"act", "pos_resize"}  # of the settings that a row decides
    rest = stated.assumed.keys() - open_ - {"stats", "pooling"}
    return Stated(
        settings={n: value for n, value in stated.settings.items() if n not in open_},
        system=row.name,
        stats=stats,
        pooling=pooling,
        assumed={n: stated.assumed[n] for n in sorted(rest)} | notes,
        dense=stated.dense,
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, False)}


def _origin(
    system: System, facts: HubFacts, is_given: bool, settings: Mapping[str, Any]
) -> tuple[str, str, dict[str, str]]:
    """Statistics and pooling, and a sentence where they are only those of the system."""
    stats, pooling = facts.stats or system.stats, facts.pooling or system.pooling
    whose = "given as" if is_given else "taken for"
    note = f"; {system.note}" if system.note else ""
    assumed = {
        name: f"'{value}', of {system.name}'s own recipe, which the file is {whose}{note}"
        for name, value, stated in (
            ("stats", stats, facts.stats),
            ("pooling", pooling, facts.pooling),
        )
        if stated is None
    }
    lost = ""
    if pooling == "cls" and not settings["with_cls_token"]:
        lost = "class token"
    elif pooling == "pool" and not settings["pool_heads"]:
        lost = "attention pooling"
    if lost:
        return stats, "mean", assumed | {"pooling": f"'mean', since the file has no {lost}"}
    return stats, pooling, assumed


def _resizing(layout: str, system: System, rule: str) -> dict[str, str]:
    """A sentence where systems with the same layout resize positions by other rules."""
    if all(row.pos_resize == rule for row in SYSTEMS.values() if layout in row.layouts):
        return {}
    note = f"'{rule}' for images of other sizes, as {system.name} does, which it is taken for"
    return {"pos_resize": note}
