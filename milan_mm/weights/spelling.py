"""From the names of `PlainViT` to those of another layout: the way back of `renaming.py`."""

import re
from collections.abc import Mapping

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.layouts import LAYOUTS

_BLOCK = re.compile(r"^layers\.(\d+)\.")


def spell(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename the tensors of an encoder; queries, keys and values are split where they are apart.

    Args:
        tensors: By name in `PlainViT`.
        layout: Key of `LAYOUTS`. Of several spellings the first is written.

    Returns:
        By name there, in the form of `PlainViT`: what a layout stores in other shapes is left as it
        is here.

    Raises:
        UserError: When the layout has no name for a tensor, or no key bias where there is one.
    """
    table = LAYOUTS[layout]
    spelt: dict[str, Tensor] = {}
    for ours, tensor in tensors.items():
        match = _BLOCK.match(ours)
        number = match[1] if match else ""
        stem = _BLOCK.sub("layers.#.", ours)
        names: tuple[str, ...]
        parts: tuple[Tensor, ...]
        if stem in table.split_tensors:
            names = tuple(table.split_tensors[stem])
            parts = tensor.chunk(3)
        elif stem in table.tensors:
            names, parts = table.tensors[stem][:1], (tensor,)
        else:
            raise UserError(f"layout {layout} has no name for '{ours}'")
        without_key = len(names) == 3 and stem.endswith(".bias") and not table.key_bias
        if without_key and bool(parts[1].any()):
            raise UserError(f"layout {layout} has no key bias, and '{ours}' holds one")
        for i, (name, part) in enumerate(zip(names, parts, strict=True)):
            if not (without_key and i == 1):
                spelt[name.replace("#", number)] = part.contiguous()
    return spelt
