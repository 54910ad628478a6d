"""What a written table says about one way of storing a plain ViT, and the words it is written in.

In all tables '#' stands for the number of a block, '*' at the end for any rest of a name, and '^'
at the start for a name that no prefix precedes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain

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
    "patch_embed.norm",
    "layers.#.attn.q_norm",
    "layers.#.attn.k_norm",
    "layers.#.attn.norm",
    "layers.#.ffn.norm",
    "attn_pool.q",
    "attn_pool.kv",
    "attn_pool.proj",
    "attn_pool.norm",
    "attn_pool.mlp.fc1",
    "attn_pool.mlp.fc2",
)
# Of every `PlainViT`; the others come with options.
USUAL_MODULES = MODULES[:10]
FIRST_LAYER = "layers.#.ffn.layers.0.0"
BIAS_TABLE = "layers.#.attn.relative_position_bias_table"

Spelling = str | tuple[str, ...]
Names = Mapping[str, Spelling]
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
        gates: Names of the two parts of a SwiGLU's first layer, gates and values, where they are
            stored apart; files without them have `names`' one layer.
        key_bias: False where queries and values have a bias and keys have none.
        optional_bias: Biases that files may lack in all blocks, since their sources have none.
        shared_table: Name of one table of relative position bias that all blocks share.
        changes: Tensor of `PlainViT` -> (rank there, change to the form here).
        extras: Names under the same prefix that are not of the encoder -> why they are dropped.
        needs: Optional parts of `PlainViT` that every file of this layout has.
        optional: Module or tensor of `PlainViT` -> names there, one of which excuses that it is
            missing, also outside of the prefix where they start with '^'; an empty tuple excuses it
            always.
        heads: (name, dimension) of tensors whose size there is the number of attention heads.
        num_registers: Number in every file whose config states no other.
        norm_eps, act, layer_scale, norm: Options of `PlainViT` that no tensor shows.
        settled: Whether the layout settles `norm_eps` and `act`; otherwise they are assumed.
    """

    names: Names
    markers: tuple[Spelling, ...]
    absent: tuple[str, ...] = ()
    prefixes: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"": {}})
    splits: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    gates: tuple[str, str] | None = None
    key_bias: bool = True
    optional_bias: tuple[str, ...] = ()
    shared_table: str | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: tuple[tuple[str, int], ...] = ()
    num_registers: int | None = None
    norm_eps: float = 1e-6
    act: str = "GELU"
    layer_scale: float = 1e-5
    norm: str = "LN"
    settled: bool = True

    @cached_property
    def tensors(self) -> dict[str, tuple[str, ...]]:
        """Tensor of `PlainViT` -> its spellings there."""
        found = {}
        for ours, spelling in self.names.items():
            for suffix in _suffixes(ours):
                found[ours + suffix] = tuple(name + suffix for name in spellings(spelling))
        return found

    @cached_property
    def split_tensors(self) -> dict[str, tuple[str, str, str]]:
        """Tensor of `PlainViT` -> names there of its queries, keys and values."""
        found = {}
        for ours, (q, k, v) in self.splits.items():
            for suffix in _suffixes(ours):
                found[ours + suffix] = (q + suffix, k + suffix, v + suffix)
        return found

    @cached_property
    def gate_tensors(self) -> dict[str, tuple[str, str]]:
        """Tensor of `PlainViT` -> names there of its gates and values."""
        if not self.gates:
            return {}
        gate, value = self.gates
        return {FIRST_LAYER + suffix: (gate + suffix, value + suffix) for suffix in _BOTH}

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """All names in the tables."""
        known = [*self.tensors.values(), *self.split_tensors.values(), tuple(self.extras)]
        known += self.gate_tensors.values()
        return tuple(chain(*known, filter(None, [self.shared_table])))


def derive(names: Names, drop: Iterable[str] = (), add: Names | None = None) -> Names:
    """A table like another one, without some entries, with others added or in their place."""
    drop = set(drop)
    assert drop <= names.keys(), drop - names.keys()
    return {ours: theirs for ours, theirs in names.items() if ours not in drop} | dict(add or {})


def spellings(spelling: Spelling) -> tuple[str, ...]:
    """One or several, as a tuple."""
    return (spelling,) if isinstance(spelling, str) else spelling


def matches(pattern: str, name: str) -> bool:
    """Whether a whole name fits a pattern with '#' (a number) and '*' (anything)."""
    return _expression(pattern).fullmatch(name) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\#", r"\d+").replace(r"\*", ".*"))


_BOTH = (".weight", ".bias")


def _suffixes(ours: str) -> tuple[str, ...]:
    return _BOTH if ours in MODULES else ("",)
