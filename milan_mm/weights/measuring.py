"""Measuring an encoder: the few sizes that the shapes of all its tensors follow from."""

from collections.abc import Sequence
from statistics import mode
from typing import NamedTuple

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.weights.finding import Found
from milan_mm.weights.layouts.table import BIAS_TABLE, FIRST_LAYER, Change

Shape = tuple[int | None, ...]
_KINDS = ("weight", "bias")


class Widths(NamedTuple):
    """Sizes that the shapes of tensors follow from.

    Attributes:
        embed_dims, patch_size: Width D, side of a patch in pixels.
        hidden_dims: Width of the MLPs inside.
        gated: Whether their first layer is twice as wide: that of a SwiGLU.
        head_dims: Channels of a head, where queries and keys have norms.
        pool_dims: Width of the MLP after an attention pooling.
    """

    embed_dims: int
    patch_size: int
    hidden_dims: int
    gated: bool = False
    head_dims: int | None = None
    pool_dims: int | None = None


def shape_of(stem: str, widths: Widths) -> Shape:
    """Shape of a tensor of `PlainViT`; None where other options decide."""
    width, hidden, pool = widths.embed_dims, widths.hidden_dims, widths.pool_dims
    expanded = (1 + widths.gated) * hidden
    shapes: dict[str, Shape] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, None, width),
        "register_tokens": (1, None, width),
        "patch_embed.projection.weight": (width, 3, widths.patch_size, widths.patch_size),
        "layers.#.attn.qkv.weight": (3 * width, width),
        "layers.#.attn.qkv.bias": (3 * width,),
        "layers.#.attn.proj.weight": (width, width),
        "layers.#.attn.q_norm.weight": (widths.head_dims,),
        "layers.#.attn.q_norm.bias": (widths.head_dims,),
        "layers.#.attn.k_norm.weight": (widths.head_dims,),
        "layers.#.attn.k_norm.bias": (widths.head_dims,),
        f"{FIRST_LAYER}.weight": (expanded, width),
        f"{FIRST_LAYER}.bias": (expanded,),
        "layers.#.ffn.norm.weight": (hidden,),
        "layers.#.ffn.norm.bias": (hidden,),
        "layers.#.ffn.layers.1.weight": (width, hidden),
        BIAS_TABLE: (None, None),
        "layers.#.attn.rel_pos_h": (None, None),
        "layers.#.attn.rel_pos_w": (None, None),
        "attn_pool.latent": (1, 1, width),
        "attn_pool.q.weight": (width, width),
        "attn_pool.kv.weight": (2 * width, width),
        "attn_pool.kv.bias": (2 * width,),
        "attn_pool.proj.weight": (width, width),
        "attn_pool.mlp.fc1.weight": (pool, width),
        "attn_pool.mlp.fc1.bias": (pool,),
        "attn_pool.mlp.fc2.weight": (width, pool),
    }
    return shapes.get(stem, (width,))


def fits(tensor: Tensor, shape: Shape) -> bool:
    """Whether a tensor has a shape, in which None stands for any size."""
    return tensor.ndim == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )


def measure(found: Found, num_layers: int) -> Widths:
    """Widths and patch size.

    Each is that of most of several tensors, so that a misshapen one is the one to be named.
    """
    first, *others = (
        _first(found, stem, shape)
        for stem, shape in (
            ("patch_embed.projection.weight", (None, 3, None, None)),
            ("layers.#.ln1.weight", (None,)),
            ("layers.#.ln2.weight", (None,)),
        )
    )
    width, _, height, patch_size = first.shape
    if height != patch_size or not patch_size:
        (name,) = found.names(found.table.tensors["patch_embed.projection.weight"], None)
        raise UserError(
            f"{found.path}: '{name}' is {tuple(found.state_dict[name].shape)}, the model needs "
            "square patches: the file is damaged or of another architecture"
        )
    width = mode([width, *(len(tensor) for tensor in others)])
    hidden, gated = _mlp(found, num_layers, width)
    norms = [f"layers.#.attn.{n}_norm.{kind}" for n in "qk" for kind in _KINDS]
    heads = _sizes(found, [(name, 0) for name in norms], num_layers)
    inner = [("attn_pool.mlp.fc2.weight", 1), *((f"attn_pool.mlp.fc1.{k}", 0) for k in _KINDS)]
    pool = _sizes(found, inner, 1)
    return Widths(
        width,
        patch_size,
        hidden,
        gated,
        head_dims=mode(heads) if heads else None,
        pool_dims=mode(pool) if pool else None,
    )


def _mlp(found: Found, num_layers: int, width: int) -> tuple[int, bool]:
    """Width of the MLPs inside, and whether they are SwiGLUs, in one layer or in two."""
    last = [("layers.#.ffn.layers.1.weight", 1), *((f"layers.#.ffn.norm.{k}", 0) for k in _KINDS)]
    narrow = _sizes(found, last, num_layers)
    hidden = mode(narrow) if narrow else 4 * width
    if has_gates(found, num_layers):
        return hidden, True
    first = _sizes(found, [(f"{FIRST_LAYER}.{kind}", 0) for kind in _KINDS], num_layers)
    return hidden, bool(first) and mode(first) == 2 * hidden


def has_gates(found: Found, num_layers: int, kinds: Sequence[str] = _KINDS) -> bool:
    """Whether some block stores a SwiGLU in two layers."""
    gates = found.table.gates
    if not gates:
        return False
    names = [found.names(gates, i)[0] for i in range(num_layers)]
    return any(f"{name}.{kind}" in found.state_dict for name in names for kind in kinds)


def _sizes(found: Found, places: list[tuple[str, int]], num_layers: int) -> list[int]:
    """Sizes of those tensors that are there, of all blocks, in the form that they have here.

    Args:
        places: Name in `PlainViT`, and dimension.
    """
    sizes = []
    for stem, dim in places:
        change, spelling = found.table.changes.get(stem), found.table.tensors.get(stem, ())
        names = [n for i in range(num_layers) for n in found.names(spelling, i)]
        for name in dict.fromkeys(names):
            tensor = found.state_dict.get(name)
            if isinstance(tensor, Tensor) and change and tensor.ndim == change[0]:
                tensor = change[1](tensor)
            if isinstance(tensor, Tensor) and tensor.ndim > dim:
                sizes.append(tensor.shape[dim])
    return sizes


def _first(found: Found, stem: str, shape: Shape) -> Tensor:
    """A tensor, that of the first block where every block has one."""
    name = found.names(found.table.tensors[stem], 0)[0]
    if name not in found.state_dict:
        raise UserError(f"{found.path} is missing '{name}'")
    return take(found, name, shape, found.table.changes.get(stem))


def take(found: Found, name: str, shape: Shape, change: Change | None = None) -> Tensor:
    """A tensor of the file, in float32 and the form here.

    Raises:
        UserError: When it is not a tensor of finite numbers, or does not have that form.
    """
    tensor = found.state_dict[name]
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(f"{found.path}: '{name}' is {kind}, the model needs floating-point numbers")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.layout} on device {tensor.device}"
        raise UserError(f"{found.path}: '{name}' is {kind}, the model needs plain numbers")
    rank, function = change or (len(shape), lambda t: t)
    changed = function(tensor) if tensor.ndim == rank else tensor
    if tensor.ndim != rank or not fits(changed, shape):
        needed = ", ".join("any" if size is None else str(size) for size in shape)
        turned = " once turned into its form here" if change else ""
        raise UserError(
            f"{found.path}: '{name}' is {tuple(tensor.shape)}, the model needs ({needed}){turned}: "
            "the file is damaged or of another architecture"
        )
    changed = changed.detach().to(torch.float32)
    if not torch.isfinite(changed).all():
        raise UserError(f"{found.path}: '{name}' holds NaN or infinite values: the file is damaged")
    return changed.contiguous()
