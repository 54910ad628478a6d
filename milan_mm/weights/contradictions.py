"""Contradictions between what the tensors show and what a config, a system or the user says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.finding import Found
from milan_mm.weights.renaming import Renamed
from milan_mm.weights.settings import FIRST_BIAS_TABLE, HEADS, Settings
from milan_mm.weights.stated.facts import HubFacts
from milan_mm.weights.systems import PARTS, System


def check_config(
    found: Found, renamed: Renamed, settings: Settings, facts: HubFacts, system: System
) -> None:
    """Refuse a config that contradicts the tensors, and encoders that only their size shows.

    Raises:
        UserError: With both values.
    """
    values = settings.values | settings.values["arch"]
    for name in ("embed_dims", "num_layers", "patch_size", "num_registers"):
        stated = getattr(facts, name)
        if stated is not None and stated != values[name]:
            raise UserError(
                f"{found.path}: {facts.named} says {name}={stated}, the tensors {values[name]}: "
                "they do not belong together"
            )
    if why := system.not_plain.get(values["embed_dims"]):
        width = values["embed_dims"]
        raise UserError(
            f"{found.path}: width {width} in the names of {system.name} is {why}: not a plain ViT"
        )
    usual, registers = found.table.num_registers, values["num_registers"]
    if facts.num_registers is None and usual and registers != usual:
        raise UserError(
            f"{found.path}: '{renamed.theirs['register_tokens']}' holds {registers} registers, "
            f"{system.name} has {usual}: the file is damaged or its config.json is missing"
        )


def check_system(path: str, settings: Settings, system: System) -> None:
    """Refuse a system that the user named and whose encoders have other parts than the file.

    Raises:
        UserError: Naming the parts.
    """
    if system.parts is None:
        return
    values = settings.values
    options = dict(
        table="with_pos_embed",
        bias="rel_pos_bias_grid",
        rope="rope_base",
        scale="layer_scale",
        registers="num_registers",
        pre_norm="pre_norm",
    )
    present = {part for part, option in options.items() if values[option]}
    lacking = [PARTS[part] for part in system.parts if part not in present]
    surplus = [PARTS[part] for part in present.difference(system.parts, system.may_have)]
    if lacking or surplus:
        parts = [f"the file has no {_bare(name)}, which {system.name} has" for name in lacking]
        parts += [f"the file has {name}, which {system.name} does not have" for name in surplus]
        raise UserError(
            f"{path}: --system '{system.name}' contradicts the tensors: {'; '.join(parts)}"
        )


def _bare(part: str) -> str:
    return part.removeprefix("a ")


def is_settled_by_args(checkpoint: Mapping[str, Any], path: str, system: System) -> bool:
    """Whether the command line that a training stores says that its model is not the twin.

    Args:
        checkpoint: `args` holds the command line, as DeiT's training script writes it.
        system: With a twin.

    Raises:
        UserError: When it is the twin.
    """
    args = checkpoint.get("args")
    name = args.get("model") if isinstance(args, Mapping) else getattr(args, "model", None)
    if not isinstance(name, str):
        return False
    if "rope" in name:
        raise UserError(
            f"{path} was trained with --model {name}: not a plain ViT as it is here; {system.twin}"
        )
    return True


def check_img_size(
    found: Found,
    renamed: Renamed,
    settings: Settings,
    facts: HubFacts,
    guessed: System | None,
) -> None:
    """Refuse patches and positions that do not belong together, where their size is known.

    A patch embedding of 8 pixels is as whole as one of 16, and so is a table for any square grid.
    Only their product can be wrong: the side of the images of the pretraining.

    Args:
        facts: Of a config.json.
        guessed: The system that the file is taken for; None where the user or a config named it,
            since a system that is named may have any size.

    Raises:
        UserError: When the size differs from that in a config.json or in CLIP's own file, or is
            none of those that the system has published.
    """
    values = settings.values
    tables = [renamed.theirs[n] for n in ("pos_embed", FIRST_BIAS_TABLE) if n in renamed.theirs]
    if "img_size" not in values or not tables:
        return
    implied, patch, positions = values["img_size"], values["patch_size"], tables[0]
    side = implied // patch
    sizes = (
        f"{found.path}: '{renamed.theirs['patch_embed.projection.weight']}' has patches of "
        f"{patch} pixels and '{positions}' a grid of {side}x{side}, together images of {implied} "
        "pixels"
    )
    if facts.oblong:
        height, width = facts.oblong
        raise UserError(
            f"{found.path}: {facts.named} says images of {height}x{width} pixels, so "
            f"'{positions}' is not of a square grid: such encoders are not supported here"
        )
    if facts.img_size is not None:  # the config has the patch as well; images may be a bit larger
        if facts.img_size // patch * patch != implied:
            raise UserError(
                f"{sizes}, but {facts.named} says image_size={facts.img_size}: they do not belong "
                "together"
            )
        return
    resolution = _resolution(found)
    if resolution not in (None, implied):
        raise UserError(f"{sizes}, but 'input_resolution' is {resolution}: the file is damaged")
    is_usual = (values["arch"]["embed_dims"], values["arch"]["num_layers"]) in HEADS
    if guessed and guessed.sizes and is_usual and implied not in guessed.sizes:
        known = " and ".join(map(str, guessed.sizes))
        raise UserError(
            f"{sizes}, but {guessed.name}, which the file is taken for, published ViTs for {known} "
            "pixels only: the file is damaged or of another system; if it was trained so, say "
            f"where it is from, e.g. --system '{guessed.name}'"
        )


def _resolution(found: Found) -> int | None:
    """What OpenAI's CLIP files say of their images."""
    value = found.state_dict.get("input_resolution")
    if not isinstance(value, Tensor) or value.device.type != "cpu":
        return None
    return int(value) if value.dtype == torch.int64 and value.shape == () else None
