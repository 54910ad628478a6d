"""`milan_mm.list_encoders`: the names that `load_encoder` and --weights take besides files."""

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

# What a name on the Hugging Face hub starts with here -> its owner there.
HUB_PREFIXES = {"hf:": "", "timm:": "timm/"}
ASSETS = Path(__file__).resolve().parents[1] / "assets"
SUMS = "SHA256SUMS"  # of what is in there, as `sha256sum --check` reads it
PUBLISHED = Path(__file__).resolve().parent / "published.txt"


@dataclass(frozen=True)
class Shipped:
    """An encoder that is part of this package.

    Attributes:
        file: Its weights.
        options: Of `read_encoder`, where the file does not say them.
        stats: See `milan_mm.weights.statistics.stats_text`; '' where the file's are right.
    """

    file: Path
    options: dict[str, Any] = field(default_factory=dict)
    stats: str = ""


_ALL = {
    "milan-mini-shapes": Shipped(
        ASSETS / "milan_mini_shapes.safetensors", dict(system="MILAN", num_heads=6)
    ),
    "mae-mini-shapes": Shipped(
        ASSETS / "mae_mini_shapes.safetensors", dict(system="MAE", num_heads=6)
    ),
    "clip-shapes": Shipped(ASSETS / "shapes_clip.safetensors", dict(num_heads=4), "imagenet"),
    "slip-shapes": Shipped(ASSETS / "shapes_slip.safetensors", dict(num_heads=4)),
}
# A wheel leaves out what only makers need.
SHIPPED = {name: shipped for name, shipped in _ALL.items() if shipped.file.exists()}


def shipped(source: str | Path) -> Shipped | None:
    """The encoder of this package that has a name or a file; a user's file of that name counts."""
    path = Path(source)
    if path.exists():
        return next((known for known in SHIPPED.values() if path.resolve() == known.file), None)
    return SHIPPED.get(str(source))


def is_on_hub(source: str | Path) -> bool:
    """Whether it names a model on the Hugging Face hub."""
    return str(source).startswith(tuple(HUB_PREFIXES))


def nearest(name: str | Path) -> str:
    """The end of a message about a name that is not there: the one that was meant, where to look.

    Returns:
        '' for what looks like the path of a file.
    """
    name = str(name)
    if not is_on_hub(name) and (Path(name).suffix or Path(name).name != name):
        return ""
    close = difflib.get_close_matches(name, list_encoders(), n=1, cutoff=0.7)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}milan_mm.list_encoders() lists the names that need no file"


def list_encoders(filter: str = "") -> list[str]:
    """Names that `load_encoder` and --weights take.

    Args:
        filter: Part of a name, e.g. 'dinov2', or a pattern with * and ?, e.g. 'timm:*base*dino*'.

    Returns:
        The small encoders in this package first, which need no network, then published ones of
        timm ('timm:NAME') and of the Hugging Face hub ('hf:OWNER/NAME'), which are downloaded once.
        Any other plain ViT on the hub loads by its name too; this list need not have it.
    """
    pattern = filter if any(letter in filter for letter in "*?[") else f"*{filter}*"
    names = (*SHIPPED, *_published())
    return [name for name in names if fnmatchcase(name.lower(), pattern.lower())]


@cache
def _published() -> tuple[str, ...]:
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
