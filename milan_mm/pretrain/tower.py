"""From the image tower of another library to a `PlainViT` with the same weights.

open_clip and timm know architectures and published weights by name; `PlainViT` does the computing.
The tables of `milan_mm.weights.layouts` say which of its parameters a tensor is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.positions import resize_pos_embed
from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.layouts.table import Layout, matches
from milan_mm.weights.position_rows import square_side

QUICK_GELU_SCALE = 1.702  # the factor in QuickGELU


@dataclass
class Tower:
    """An image tower under the names of its library.

    Attributes:
        source: Where the tensors come from, for error messages: "weights 'FILE' of teacher 'NAME'".
        layout: Key of `LAYOUTS`: the spelling of the tensors.
        tensors: By name there, on any device.
        options: Of a `PlainViT` that computes the same.
        num_prefix_positions: Rows of the position table before those of the patches.
        projection: (D, C) that follows the final norm; None for none.
    """

    source: str
    layout: str
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    num_prefix_positions: int = 1
    projection: Tensor | None = None

    def build(self, grid_size: tuple[int, int] | None = None) -> PlainViT:
        """The tower as a `PlainViT`, in which QuickGELU is folded into the linear layers.

        Args:
            grid_size: (h, w) to resize the position table to; None keeps that of `options`.

        Raises:
            UserError: Naming a tensor that is missing, unknown or of another shape.
        """
        is_quick = self.options["act"] == "QuickGELU"
        options = self.options | (dict(act="SiLU") if is_quick else {})
        if grid_size:
            side = options["patch_size"]
            options["img_size"] = (grid_size[0] * side, grid_size[1] * side)
        with torch.device("meta"):  # no random start, which would be overwritten
            vit = PlainViT(**options)
        expected = vit.state_dict()
        renamed = _renamed(self.tensors, LAYOUTS[self.layout], expected, self.source)
        _fit_positions(renamed, self._table_grid(renamed), vit, self.num_prefix_positions)
        for name, tensor in renamed.items():
            if tensor.shape != expected[name].shape:
                raise UserError(
                    f"{self.source} do not fit the architecture: '{name}' is "
                    f"{tuple(tensor.shape)}, it needs {tuple(expected[name].shape)}"
                )
        vit.load_state_dict(_folded(renamed) if is_quick else renamed, assign=True)
        return vit

    def _table_grid(self, renamed: Mapping[str, Tensor]) -> tuple[int, int]:
        """(h, w) of the position table: the architecture's own, or any square of a file."""
        num_patches = renamed["pos_embed"].shape[1] - self.num_prefix_positions
        height, width = (n // self.options["patch_size"] for n in self.options["img_size"])
        if height * width == num_patches:
            return height, width
        if not (side := square_side(num_patches)):
            raise UserError(
                f"{self.source} have positions for {num_patches} patches, neither the "
                f"{height}x{width} of the architecture nor a square grid"
            )
        return side, side


def fold_quick_gelu(vit: PlainViT) -> PlainViT:
    """The same encoder with SiLU in place of QuickGELU, see `_folded`; others as they are.

    A norm before the last layer of an MLP would undo the factor, so such encoders stay too.
    """
    if vit.options.act != "QuickGELU" or vit.options.mlp_norm:
        return vit
    with torch.device("meta"):
        folded = PlainViT(**vars(vit.options) | dict(act="SiLU"))
    folded.load_state_dict(_folded(vit.state_dict()), assign=True)
    if vit.options.rope_base:
        folded.rope = vit.rope  # its frequencies are not among the tensors
    return folded


def warn_of_random_weights(model_name: str) -> None:
    """Log a warning that the teacher is untrained."""
    print_log(f"teacher {model_name} has RANDOM weights: good for trials only", "current", 30)


def _renamed(
    tensors: Mapping[str, Tensor], table: Layout, expected: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The tensors under the names of `PlainViT`, in float32.

    Raises:
        UserError: Naming those that are missing or have no place.
    """
    renamed, missing, used = {}, [], set()
    for ours in expected:
        stem, number = _stem(ours)
        names = [name.replace("#", number) for name in table.tensors[stem]]
        name = next((name for name in names if name in tensors), None)
        if name is None:
            missing.append(names[0])
            continue
        rank, change = table.changes.get(stem, (0, None))
        tensor = tensors[name].detach()
        changed = change(tensor) if change and tensor.ndim == rank else tensor
        renamed[ours] = changed.to(torch.float32)
        used.add(name)
    unknown = [n for n in tensors if n not in used and not any(matches(p, n) for p in table.extras)]
    for what, names in (("missing", missing), ("no place for", unknown)):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            raise UserError(f"{source} do not fit the architecture: {what} {shown}")
    return renamed


def _stem(name: str) -> tuple[str, str]:
    """'layers.3.ln1.bias' to 'layers.#.ln1.bias' and '3'; other names as they are, and ''."""
    if not name.startswith("layers."):
        return name, ""
    _, number, rest = name.split(".", 2)
    return f"layers.#.{rest}", number


def _fit_positions(
    tensors: dict[str, Tensor], grid: tuple[int, int], vit: PlainViT, num_prefix_positions: int
) -> None:
    """Bring the position table to the grid and to the rows [1+]L of a `PlainViT`, in place."""
    rule = vit.options.resize_rule
    table = resize_pos_embed(tensors["pos_embed"], grid, vit.grid_size, rule)
    num_class = int(vit.with_cls_token)
    placed, patches = table.split([num_prefix_positions, vit.num_patches], dim=1)
    if not num_prefix_positions:  # the tokens before the patches have no positions
        placed = F.pad(placed, (0, 0, 0, num_class))
    elif num_prefix_positions > num_class:
        tensors["register_tokens"] = tensors["register_tokens"] + placed[:, num_class:]
    tensors["pos_embed"] = torch.cat([placed[:, :num_class], patches], dim=1)


def _folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with which SiLU computes what QuickGELU did.

    x sigmoid(1.702 x) is silu(1.702 x) / 1.702, and the linear layers around it take the factors:
    one pass over the widest map of a block instead of three, and one rounding. Such weights must
    not be trained.
    """
    folded = dict(tensors)
    for name, tensor in tensors.items():
        if re.search(r"(\.ffn\.layers\.0\.0|^attn_pool\.mlp\.fc1)\.(weight|bias)$", name):
            folded[name] = tensor * QUICK_GELU_SCALE
        elif re.search(r"(\.ffn\.layers\.1|^attn_pool\.mlp\.fc2)\.weight$", name):
            folded[name] = tensor / QUICK_GELU_SCALE
    return folded
