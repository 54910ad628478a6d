"""What a config beside or inside a weights file says about the encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What only a `PlainViT` in a detector has, besides its weights.
DENSE = ("window_size", "global_layers", "rel_pos_grid")


@dataclass(frozen=True)
class HubFacts:
    """Options of an encoder that a config states; None where it states none.

    Attributes:
        system: Key of `SYSTEMS`.
        oblong: (height, width) of images that are not square; `img_size` is None then.
        final_norm: False where the model that wrote the file has no norm after its last block.
        patch_bias: False where its patch embedding has no bias.
        pool_heads: Of its own attention pooling.
        stats: See `stats_text`.
        named: Which config, for messages.
        foreign: What it says of a model that is not known here, so that nothing else is taken.
    """

    system: str | None = None
    embed_dims: int | None = None
    img_size: int | None = None
    oblong: tuple[int, int] | None = None
    patch_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    norm_eps: float | None = None
    act: str | None = None
    num_registers: int | None = None
    rope_base: float | None = None
    rope_kind: str | None = None
    rope_grid: tuple[int, int] | None = None
    pos_resize: str | None = None
    final_norm: bool | None = None
    norm: str | None = None
    patch_bias: bool | None = None
    pool_heads: int | None = None
    stats: str | None = None
    pooling: str | None = None
    named: str = "config.json"
    foreign: str | None = None


def oblong(size: Any) -> tuple[int, int] | None:
    """Height and width that differ; None for anything else that a config may say."""
    if not isinstance(size, list | tuple) or len(size) != 2 or size[0] == size[1]:
        return None
    height, width = size
    return (height, width) if type(height) is type(width) is int else None


def plain_dense(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `DENSE` that are set, and whole numbers throughout."""
    found = {name: options[name] for name in DENSE if options.get(name)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.items()
        if all(type(n) is int for n in (value if isinstance(value, list | tuple) else [value]))
    }
