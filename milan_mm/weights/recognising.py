"""Any pretrained plain ViT as an encoder of this package: tensors, options, origin, statistics."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.vit import ARCHS
from milan_mm.weights.finding import Found, find_encoder
from milan_mm.weights.hub import HubFacts, read_hub_facts
from milan_mm.weights.layout import Layout
from milan_mm.weights.reading import read_checkpoint, read_metadata
from milan_mm.weights.renaming import Renamed, rename
from milan_mm.weights.systems import POOLINGS, STATS, SYSTEMS, guess_system, sincos_order
from milan_mm.weights.training_config import training_facts

OWN_LAYOUT = "milan_mm encoder"
# Heads by (width, blocks). No tensor tells them, except where a layout's table says so.
HEADS = {(a["embed_dims"], a["num_layers"]): a["num_heads"] for a in ARCHS.values()} | {
    (1280, 32): 16,  # ViT-H
    (1408, 40): 16,  # ViT-g
}
# MoCo v3 gives its ViT-S heads of half the usual width.
HEADS_OF_SYSTEM = {("MoCo v3", 384, 12): 12}


@dataclass
class Encoder:
    """A pretrained encoder, and all that is known about it.

    Attributes:
        source: The file.
        layout: Key of `LAYOUTS`.
        state_dict: float32 tensors under the names of `PlainViT`.
        settings: Keyword arguments of `PlainViT`. `arch` has no `num_heads` where they are
            unknown, and there is no `img_size` where the position table is of no square grid.
        system: Key of `SYSTEMS`: the most probable origin.
        stats: Key of `STATS`: how the images of the pretraining were normalised.
        pooling: 'cls' or 'mean', what the system's own classification takes.
        assumed: Setting or attribute -> sentence, where the file does not tell the value.
        dropped: Name in the file -> why it is no part of the encoder.
        added: Name here -> what was made up, since the file has no such tensor.
        theirs: Name here -> name in the file.
    """

    source: str
    layout: str
    state_dict: dict[str, Tensor]
    settings: dict[str, Any]
    system: str
    stats: str
    pooling: str
    assumed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)

    def model_settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults of `PlainViT`, complete enough to build one.

        Raises:
            ValueError: When the heads or the grid of the position table are unknown.
        """
        arch = self.settings["arch"]
        if "num_heads" not in arch:
            raise ValueError(
                f"{self.source} has {arch['num_layers']} blocks of width {arch['embed_dims']}, and "
                "no tensor tells the number of attention heads: pass --num-heads, that of the "
                "pretraining"
            )
        if "img_size" not in self.settings:
            table = self.state_dict["pos_embed"]
            num_patches = table.shape[1] - int("cls_token" in self.state_dict)
            raise ValueError(
                f"{self.source} has positions for {num_patches} patches, which is no square grid: "
                "such encoders are not supported here"
            )
        return {n: v for n, v in self.settings.items() if n not in DEFAULTS or v != DEFAULTS[n]}


# Of `PlainViT`: what a setting is where nobody sets it.
DEFAULTS: dict[str, Any] = dict(
    norm_eps=1e-6,
    act="GELU",
    patch_bias=True,
    pre_norm=False,
    layer_scale=None,
    with_pos_embed=True,
    rel_pos_bias_grid=None,
    num_registers=0,
    rope_base=None,
)


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
        path: A file, or a folder of Hugging Face or timm with its config.json; see
            `read_checkpoint`.
        layout: See `find_encoder`.
        system: Key of `SYSTEMS`, where the most probable one is not the right one.
        num_heads: Of the attention, where neither the file nor its width and depth tell.
        student: See `find_encoder`.
        trust_pickle: See `read_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: When the file holds no complete encoder in one layout.
    """
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
        raise ValueError(f"system '{system}' is unknown: choose from {', '.join(SYSTEMS)}")
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
        system=system or facts.system or _system(found),
        stats="",
        pooling="",
        dropped=renamed.dropped,
        added=renamed.added,
        theirs=renamed.theirs,
    )
    _fit_positions(found, renamed, path)
    _mask_key_bias(found, renamed)
    if own:
        encoder.system = system or (metadata or {})["system"]
    _fill_settings(encoder, found, facts, num_heads)
    _fill_origin(encoder, facts, told_system=system is not None)
    if own:
        _take_own(encoder, own, metadata or {}, path)
    return encoder


def _own_settings(metadata: dict[str, str], path: str | Path) -> dict[str, Any]:
    """The settings that an encoder file of this package states; older ones state none."""
    if metadata.get("layout") != OWN_LAYOUT or "settings" not in metadata:
        return {}
    settings = _read_json(metadata, "settings", path)
    known = {"arch", "img_size", "patch_size", "with_cls_token", "final_norm", *DEFAULTS}
    if not settings.keys() <= known:
        raise ValueError(f"{path}: its metadata 'settings' hold unknown options: {settings}")
    if metadata.get("system") not in SYSTEMS:
        raise ValueError(f"{path}: its metadata name an unknown system: {metadata.get('system')}")
    return {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}


def _read_json(metadata: dict[str, str], name: str, path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get(name, "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: its metadata '{name}' are damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: its metadata '{name}' are damaged: {content}")
    return content


def _take_own(
    encoder: Encoder, own: dict[str, Any], metadata: dict[str, str], path: str | Path
) -> None:
    """What this package wrote about its own file overrides what was derived from the tensors."""
    for name, value in own.items():
        derived = encoder.settings.get(name)
        told = name not in encoder.assumed and name not in ("layer_scale", "img_size", "arch")
        if told and name in encoder.settings and derived != value:
            raise ValueError(
                f"{path}: its metadata say {name}={value}, its tensors {derived}: it is damaged"
            )
    arch, stated = encoder.settings["arch"], own.get("arch", {})
    if any(arch.get(n, v) != v for n, v in stated.items() if n not in encoder.assumed):
        raise ValueError(f"{path}: its metadata say arch={stated}, else it is {arch}")
    encoder.settings |= own | dict(arch=arch | stated)
    for name, known in (("stats", STATS), ("pooling", POOLINGS)):
        if metadata.get(name) not in known:
            raise ValueError(f"{path}: its metadata '{name}' are '{metadata.get(name)}': damaged")
        setattr(encoder, name, metadata[name])
    encoder.assumed = _read_json(metadata, "assumed", path)


def _system(found: Found) -> str:
    outside = {n for n in found.state_dict if not n.startswith(found.prefix)}
    return guess_system(found.layout, found.prefix, found.wrapper, found.tower, outside)


# -------------------------------------------------------------------------------------- positions
def _fit_positions(found: Found, renamed: Renamed, path: str | Path) -> None:
    """Bring the rows of a position table to [1+]L: class token first, nothing else.

    Raises:
        ValueError: When the rows cannot be understood.
    """
    tensors = renamed.tensors
    if "pos_embed" not in tensors:
        return
    table, name = tensors["pos_embed"], renamed.theirs["pos_embed"]
    distilled = [n for n in renamed.dropped if n.endswith(("dist_token", "distillation_token"))]
    if distilled and table.shape[1] > 2:
        table = torch.cat([table[:, :1], table[:, 2:]], dim=1)
        renamed.dropped[f"{name}[:, 1]"] = "position of the distillation token"
    rows = table.shape[1]
    if "cls_token" not in tensors:
        if not _side(rows) and _side(rows - 1):
            (spelling,) = found.table.tensors()["cls_token"]
            raise ValueError(f"{path} lacks '{found.prefix}{spelling}': '{name}' has a row for it")
    elif not _side(rows - 1):
        registers = tensors.get("register_tokens")
        extra = 0 if registers is None else registers.shape[1]
        if found.layout == "timm" and _side(rows):
            table = F.pad(table, (0, 0, 1, 0))
            renamed.added["pos_embed"] = "a zero row: the source's class token has no position"
        elif registers is not None and _side(rows - 1 - extra):
            tensors["register_tokens"] = registers + table[:, 1 : 1 + extra]
            table = torch.cat([table[:, :1], table[:, 1 + extra :]], dim=1)
            renamed.dropped[f"{name}[:, 1:{1 + extra}]"] = "added to the register tokens"
        elif found.layout in ("timm", "hf-vit") and not distilled and _side(rows - 2):
            token = next(n for n in found.table.extras if "dist" in n and n.endswith("_token"))
            raise ValueError(f"{path} lacks '{found.prefix}{token}': '{name}' has a row for it")
    tensors["pos_embed"] = table.contiguous()


def _side(num_patches: int) -> int:
    """Side of a square grid of so many patches, or 0."""
    side = round(max(num_patches, 0) ** 0.5)
    return side if side**2 == num_patches else 0


def _mask_key_bias(found: Found, renamed: Renamed) -> None:
    """DINOv3 multiplies the key bias by zero in every forward pass; here it is zero."""
    for i in range(renamed.num_layers):
        if f"blocks.{i}.attn.qkv.bias_mask" in found.tower and found.layout == "dinov3":
            q, _, v = renamed.tensors[f"layers.{i}.attn.qkv.bias"].chunk(3)
            renamed.tensors[f"layers.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])


# --------------------------------------------------------------------------------------- settings
def _fill_settings(encoder: Encoder, found: Found, facts: HubFacts, num_heads: int | None) -> None:
    """Derive the keyword arguments of `PlainViT`."""
    tensors, path = encoder.state_dict, encoder.source
    weight = tensors["patch_embed.projection.weight"]
    width, patch_size = weight.shape[0], weight.shape[-1]
    num_layers = len({n.split(".")[1] for n in tensors if n.startswith("layers.")})
    settings = encoder.settings
    settings["arch"] = arch = dict(embed_dims=width, num_layers=num_layers)
    heads = _num_heads(encoder, found, facts, num_heads, width, num_layers)
    if heads is not None:
        if width % heads:
            raise ValueError(f"{path}: width {width} is not a multiple of {heads} heads")
        arch["num_heads"] = heads
    with_cls_token = "cls_token" in tensors
    side = 0
    grid = _bias_grid(encoder, with_cls_token)
    if "pos_embed" in tensors:
        side = _side(tensors["pos_embed"].shape[1] - int(with_cls_token))
    elif grid:
        side = grid[0]
    else:  # rotary positions belong to no grid
        side = 224 // patch_size
        encoder.assumed["img_size"] = "rotary positions serve any size: 224 pixels stand for all"
    if side:
        settings["img_size"] = side * patch_size
    settings |= dict(
        patch_size=patch_size,
        with_cls_token=with_cls_token,
        final_norm="ln1.weight" in tensors,
        norm_eps=facts.norm_eps or _norm_eps(encoder, found.table),
        act=facts.act or _act(encoder, found),
        patch_bias="patch_embed.projection.bias" in tensors,
        pre_norm="pre_norm.weight" in tensors,
        layer_scale=found.table.layer_scale if "layers.0.gamma_1" in tensors else None,
        with_pos_embed="pos_embed" in tensors,
        rel_pos_bias_grid=grid,
        num_registers=tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0,
        rope_base=_rope_base(encoder, found, facts),
    )
    for name, value, told in (
        ("embed_dims", width, facts.embed_dims),
        ("num_layers", num_layers, facts.num_layers),
        ("num_registers", settings["num_registers"], facts.num_registers),
    ):
        if told is not None and told != value:
            raise ValueError(
                f"{path}: config.json says {name}={told}, the tensors {value}: the two files do "
                "not belong together"
            )


def _num_heads(
    encoder: Encoder,
    found: Found,
    facts: HubFacts,
    given: int | None,
    width: int,
    num_layers: int,
) -> int | None:
    """Heads as the file tells them, else as given, else as usual for the architecture.

    Raises:
        ValueError: When the file contradicts itself or what is given.
    """
    told: dict[int, str] = {} if facts.num_heads is None else {facts.num_heads: "config.json"}
    for spelling, dim in found.table.heads:
        for i in range(num_layers if "#" in spelling else 1):
            name = found.prefix + spelling.replace("#", str(i))
            if name in found.state_dict:
                told.setdefault(found.state_dict[name].shape[dim], f"'{name}'")
    periods = found.tower.get("rope_embed.periods")
    if isinstance(periods, Tensor) and periods.ndim == 1 and len(periods):
        told.setdefault(width // (4 * len(periods)), f"'{found.prefix}rope_embed.periods'")
    if given is not None:
        told.setdefault(given, "--num-heads")
    if len(told) > 1:
        parts = " and ".join(f"{source} tells {number}" for number, source in told.items())
        raise ValueError(f"{encoder.source}: {parts} attention heads")
    if told:
        return next(iter(told))
    usual = HEADS_OF_SYSTEM.get((encoder.system, width, num_layers), HEADS.get((width, num_layers)))
    if usual is not None:
        encoder.assumed["num_heads"] = (
            f"{usual} heads are usual for {num_layers} blocks of width {width} of "
            f"{encoder.system}; no tensor tells them"
        )
    return usual


def _bias_grid(encoder: Encoder, with_cls_token: bool) -> tuple[int, int] | None:
    """(h, w) in patches of the relative position bias, if there is any.

    Raises:
        ValueError: When the tables differ in size or are of no square grid.
    """
    names = [n for n in encoder.state_dict if n.endswith(".relative_position_bias_table")]
    if not names:
        return None
    first = encoder.state_dict[names[0]]
    for name in names:
        table = encoder.state_dict[name]
        side = _side(table.shape[0] - 3 * int(with_cls_token))
        if side % 2 == 0 or table.shape != first.shape:
            raise ValueError(
                f"{encoder.source}: '{encoder.theirs[name]}' is {tuple(table.shape)}, the model "
                f"needs (2n-1)^2{' + 3' if with_cls_token else ''} rows for a grid of n x n "
                "patches: the file is damaged or of another architecture"
            )
    side = (_side(first.shape[0] - 3 * int(with_cls_token)) + 1) // 2
    return side, side


def _norm_eps(encoder: Encoder, table: Layout) -> float:
    if encoder.layout == "timm" and "pre_norm.weight" in encoder.state_dict:
        return 1e-5  # timm's export of CLIP
    if not table.told:
        encoder.assumed["norm_eps"] = (
            f"epsilon {table.norm_eps:g} is usual for this layout; no tensor tells it"
        )
    return table.norm_eps


def _act(encoder: Encoder, found: Found) -> str:
    if encoder.system == "CLIP":
        return "QuickGELU"
    if encoder.system == "open_clip":
        encoder.assumed["act"] = (
            "GELU, as open_clip's LAION and DataComp weights have; its OpenAI, MetaCLIP and DFN "
            "weights need QuickGELU, and no tensor tells it: give --system CLIP for those"
        )
    elif not found.table.told:
        encoder.assumed["act"] = f"{found.table.act} is usual for this layout; no tensor tells it"
    return found.table.act


def _rope_base(encoder: Encoder, found: Found, facts: HubFacts) -> float | None:
    if "pos_embed" in encoder.state_dict or "register_tokens" not in encoder.state_dict:
        return None
    if any(n.endswith(".relative_position_bias_table") for n in encoder.state_dict):
        return None
    if facts.rope_base is not None:
        return facts.rope_base
    periods = found.tower.get("rope_embed.periods")
    if isinstance(periods, Tensor) and periods.ndim == 1 and len(periods) > 1:
        # base ** (2i / (d/2)) for i < d/4: the last one tells the base
        share = (len(periods) - 1) / len(periods)
        return round(float(periods[-1].double()) ** (1 / share), 2)
    encoder.assumed["rope_base"] = "base 100 of the rotary positions, that of DINOv3's releases"
    return 100.0


# ----------------------------------------------------------------------------------------- origin
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


def sincos_table(encoder: Encoder) -> str | None:
    """See `sincos_order`; None without a position table."""
    table = encoder.state_dict.get("pos_embed")
    return None if table is None else sincos_order(table)
