"""Width and depth of an encoder, and the names of the usual ones."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from milan_mm.models.vit_options import ARCHS


class Size(NamedTuple):
    """Of an encoder; printed as in messages."""

    embed_dims: int
    num_layers: int

    @classmethod
    def of(cls, arch: str | Mapping[str, Any]) -> Self | None:
        """That of the option `arch` of `PlainViT`; None where it is not a valid one."""
        sizes = ARCHS.get(arch, {}) if isinstance(arch, str) else arch
        if not {"embed_dims", "num_layers"} <= sizes.keys():
            return None
        return cls(sizes["embed_dims"], sizes["num_layers"])

    @property
    def name(self) -> str:
        """Key of `ARCHS`, or ''."""
        return next((name for name in ARCHS if Size.of(name) == self), "")

    def __str__(self) -> str:
        named = f" (ViT-{self.name})" if self.name else ""
        return f"{self.num_layers} blocks of width {self.embed_dims}{named}"
