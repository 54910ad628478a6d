"""Any pretrained plain ViT as an encoder of this package."""

import json
from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.finding import find_encoder
from milan_mm.weights.hub import HubFacts, local_path, read_hub_facts
from milan_mm.weights.image_size import check_img_size
from milan_mm.weights.position_rows import fit_positions, mask_key_bias
from milan_mm.weights.reading import read_checkpoint, read_metadata
from milan_mm.weights.renaming import rename
from milan_mm.weights.settings import fill_settings
from milan_mm.weights.statistics import STATS
from milan_mm.weights.systems import POOLINGS, SYSTEMS, guess_system
from milan_mm.weights.training_config import training_facts

OWN_LAYOUT = "milan_mm encoder"
# Settings in the metadata of an encoder file.
_KINDS: dict[str, Any] = dict(
    arch=dict,
    img_size=int,
    patch_size=int,
    with_cls_token=bool,
    final_norm=bool,
    norm_eps=float,
    act=str,
    patch_bias=bool,
    pre_norm=bool,
    layer_scale=float | None,
    with_pos_embed=bool,
    rel_pos_bias_grid=list | None,
    num_registers=int,
    rope_base=float | None,
)
# What a user can say about a file that does not tell it; options of every tool with --weights.
READ_OPTIONS = ("layout", "system", "num_heads", "student")


def given_options(arguments: object) -> dict[str, Any]:
    """Those of `READ_OPTIONS` that a command line holds, for `read_encoder`."""
    return _given({name: getattr(arguments, name) for name in READ_OPTIONS})


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, False)}


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
            `read_checkpoint`; or a name on the hub, see `local_path`.
        layout: See `find_encoder`.
        system: Key of `SYSTEMS`, where the most probable one is not the right one.
        num_heads: Of the attention, where neither the file nor its width and depth tell.
        student: See `find_encoder`.
        trust_pickle: See `read_checkpoint`.

    Raises:
        MissingFileError, UserError: When the file holds no complete encoder in one layout.
    """
    path = local_path(path)
    checkpoint = read_checkpoint(path, trust_pickle=trust_pickle)
    metadata, facts = read_metadata(path), read_hub_facts(path)
    return recognise(checkpoint, path, layout, system, num_heads, student, metadata, facts)


def recognise(
    checkpoint: dict,
    path: str | Path,
    layout: str | None = None,
    system: str | None = None,
    num_heads: int | None = None,
    student: bool = False,
    metadata: dict[str, str] | None = None,
    facts: HubFacts | None = None,
) -> Encoder:
    """As `read_encoder`, of content that was read already.

    Args:
        metadata: Of a safetensors file; an encoder file of this package tells its settings there.
        facts: What a config.json beside the file tells; else a training's own config is asked.
    """
    if system is not None and system not in SYSTEMS:
        raise UserError(f"system '{system}' is unknown: choose from {', '.join(SYSTEMS)}")
    found = find_encoder(checkpoint, path, layout, student)
    own = _own_settings(metadata or {}, path)
    renamed = rename(found, path, rotary=own.get("rope_base") is not None)
    facts = facts or HubFacts()
    if found.layout == "mmpretrain" and facts == HubFacts():
        facts = training_facts(checkpoint)
    encoder = Encoder(
        source=str(path),
        layout=found.layout,
        state_dict=renamed.tensors,
        settings={},
        system=system or facts.system or guess_system(found),
        stats="",
        pooling="",
        dropped=renamed.dropped,
        added=renamed.added,
        theirs=renamed.theirs,
        options=_given(dict(layout=layout, system=system, num_heads=num_heads, student=student)),
    )
    fit_positions(found, renamed, path)
    mask_key_bias(found, renamed)
    if own:
        encoder.system = system or (metadata or {})["system"]
    fill_settings(encoder, found, facts, num_heads)
    _fill_origin(encoder, facts, told_system=system is not None)
    if own:
        _take_own(encoder, own, metadata or {}, path)
    else:
        check_img_size(encoder, found, facts, guessed=(system or facts.system) is None)
    return encoder


def _own_settings(metadata: dict[str, str], path: str | Path) -> dict[str, Any]:
    """The settings that an encoder file of this package states; older ones state none."""
    if metadata.get("layout") != OWN_LAYOUT or "settings" not in metadata:
        return {}
    settings = _read_json(metadata, "settings", path)
    if not settings.keys() <= _KINDS.keys():
        raise UserError(f"{path}: its metadata 'settings' hold unknown options: {settings}")
    wrong = [name for name, value in settings.items() if not isinstance(value, _KINDS[name])]
    if wrong or not all(type(n) is int and n > 0 for n in settings.get("arch", {}).values()):
        raise UserError(f"{path}: its metadata 'settings' are damaged: {settings}")
    if metadata.get("system") not in SYSTEMS:
        raise UserError(f"{path}: its metadata name an unknown system: {metadata.get('system')}")
    return {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}


def _read_json(metadata: dict[str, str], name: str, path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get(name, "{}"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: its metadata '{name}' are damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: its metadata '{name}' are damaged: {content}")
    return content


def _take_own(
    encoder: Encoder, own: dict[str, Any], metadata: dict[str, str], path: str | Path
) -> None:
    """What this package wrote about its own file overrides what was derived from the tensors."""
    for name, value in own.items():
        derived = encoder.settings.get(name)
        told = name not in encoder.assumed and name not in ("layer_scale", "img_size", "arch")
        if told and name in encoder.settings and derived != value:
            raise UserError(
                f"{path}: its metadata say {name}={value}, its tensors {derived}: it is damaged"
            )
    arch, stated = encoder.settings["arch"], own.get("arch", {})
    if any(arch.get(n, v) != v for n, v in stated.items() if n not in encoder.assumed):
        raise UserError(f"{path}: its metadata say arch={stated}, else it is {arch}")
    encoder.settings |= own | dict(arch=arch | stated)
    for name, known in (("stats", STATS), ("pooling", POOLINGS)):
        if metadata.get(name) not in known:
            raise UserError(f"{path}: its metadata '{name}' are '{metadata.get(name)}': damaged")
        setattr(encoder, name, metadata[name])
    encoder.assumed = _read_json(metadata, "assumed", path)


def _fill_origin(encoder: Encoder, facts: HubFacts, told_system: bool) -> None:
    """Statistics and pooling: as a config beside the file tells, or those of the system."""
    system = SYSTEMS[encoder.system]
    encoder.stats = facts.stats or system.stats
    encoder.pooling = facts.pooling or system.pooling
    whose = "given as" if told_system else "taken for"
    note = f"; {system.note}" if system.note else ""
    for name, told in (("stats", facts.stats), ("pooling", facts.pooling)):
        if told is None:
            encoder.assumed[name] = (
                f"'{getattr(encoder, name)}', of {encoder.system}'s own recipe, which the file is "
                f"{whose}{note}"
            )
    if encoder.pooling == "cls" and "cls_token" not in encoder.state_dict:
        encoder.pooling = "mean"
        encoder.assumed["pooling"] = "'mean', since the file has no class token"
