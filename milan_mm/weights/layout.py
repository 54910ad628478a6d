"""What a written table of `layouts.py` says about one way of storing a plain ViT."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

# Parts of `PlainViT` that are a module with weight and bias; all other names are single tensors.
MODULES = (
    "patch_embed.projection",
    "pre_norm",
    "layers.#.ln1",
    "layers.#.attn.qkv",
    "layers.#.attn.proj",
    "layers.#.ln2",
    "layers.#.ffn.layers.0.0",
    "layers.#.ffn.layers.1",
    "ln1",
    "ln2",
)
BIAS_TABLE = "layers.#.attn.relative_position_bias_table"
Names = str | tuple[str, ...]
Change = tuple[int, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Layout:
    """One spelling of the encoder.

    Attributes:
        names: Name of a tensor or module in `PlainViT` -> name there; a tuple lists spellings of
            which a file has one.
        markers: Whole keys that must all be there; of a tuple, any one.
        absent: Whole keys that must not be there.
        prefixes: What may stand before every name -> names outside of it that belong to no
            encoder, with the reason why they are dropped.
        splits: Queries, keys and values that are stored apart -> their three names.
        key_bias: False where queries and values have a bias and keys have none.
        may_lack_bias: The attention may have no bias at all.
        shared_table: Name of one table of relative position bias that all blocks share.
        changes: Tensor of `PlainViT` -> (rank there, change to the form here).
        extras: Names beside the encoder, under the same prefix -> why they are dropped.
        needs: Optional parts of `PlainViT` that every file of this layout has.
        may_lack: Module of `PlainViT` -> names there, one of which excuses that it is missing; an
            empty tuple excuses it always.
        heads: (name, dimension) of tensors whose shape tells the number of attention heads.
        num_registers: That every file has whose config does not tell another number.
        norm_eps, act, layer_scale: Options of `PlainViT` that no tensor tells.
        told: Whether the layout settles `norm_eps` and `act`; otherwise they are assumed.
    """

    names: dict[str, Names]
    markers: tuple[Names, ...]
    absent: tuple[str, ...] = ()
    prefixes: dict[str, dict[str, str]] = field(default_factory=lambda: {"": {}})
    splits: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    key_bias: bool = True
    may_lack_bias: bool = False
    shared_table: str | None = None
    changes: dict[str, Change] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    may_lack: dict[str, tuple[str, ...]] = field(default_factory=dict)
    heads: tuple[tuple[str, int], ...] = ()
    num_registers: int | None = None
    norm_eps: float = 1e-6
    act: str = "GELU"
    layer_scale: float = 1e-5
    told: bool = True

    def tensors(self) -> dict[str, tuple[str, ...]]:
        """Tensor of `PlainViT` -> its spellings there."""
        found = {}
        for ours, theirs in self.names.items():
            spellings = (theirs,) if isinstance(theirs, str) else theirs
            for suffix in (".weight", ".bias") if ours in MODULES else ("",):
                found[ours + suffix] = tuple(name + suffix for name in spellings)
        return found

    def split_tensors(self) -> dict[str, tuple[str, str, str]]:
        """Tensor of `PlainViT` -> names there of its queries, keys and values."""
        found = {}
        for ours, (q, k, v) in self.splits.items():
            for suffix in (".weight", ".bias") if ours in MODULES else ("",):
                found[ours + suffix] = (q + suffix, k + suffix, v + suffix)
        return found


def matches(pattern: str, name: str) -> bool:
    """Whether a whole name fits a pattern with '#' (a number) and '*' (anything)."""
    expression = re.escape(pattern).replace(r"\#", r"\d+").replace(r"\*", ".*")
    return re.fullmatch(expression, name) is not None
