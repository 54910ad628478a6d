"""Pretraining checkpoints of MILAN and MAE between three layouts, encoder and decoder, both ways.

Read the tables first. All three layouts hold the same tensors with the same shapes, the
queries, keys and values stacked in the same order; only the names differ. So a conversion renames,
and no value changes. The position tables travel like every other tensor: mmpretrain builds its own
with rows and columns swapped, so weights are worthless with a table that was built anew.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.files import replacing
from milan_mm.weights.finding import some
from milan_mm.weights.layouts.table import USUAL_MODULES, spellings
from milan_mm.weights.layouts.timm import TIMM
from milan_mm.weights.reading import read_checkpoint, tensors_sha256
from milan_mm.weights.storing import save_tensors

# Parts of the encoder, '#' being the number of a block; pretraining has no other norms.
ENCODER = ("cls_token", "pos_embed", *(m for m in USUAL_MODULES if m not in ("pre_norm", "ln2")))
# Name in this package -> name there. The decoder's attn.q and attn.kv are MILAN's, its attn.qkv is
# MAE's.
OFFICIAL = {f"backbone.{name}": spellings(TIMM.names[name])[0] for name in ENCODER} | {
    "decoder.decoder_embed": "decoder_embed",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    "decoder.decoder_blocks.#.ln1": "decoder_blocks.#.norm1",
    "decoder.decoder_blocks.#.attn.q": "decoder_blocks.#.attn.q",
    "decoder.decoder_blocks.#.attn.kv": "decoder_blocks.#.attn.kv",
    "decoder.decoder_blocks.#.attn.qkv": "decoder_blocks.#.attn.qkv",
    "decoder.decoder_blocks.#.attn.proj": "decoder_blocks.#.attn.proj",
    "decoder.decoder_blocks.#.ln2": "decoder_blocks.#.norm2",
    "decoder.decoder_blocks.#.ffn.layers.0.0": "decoder_blocks.#.mlp.fc1",
    "decoder.decoder_blocks.#.ffn.layers.1": "decoder_blocks.#.mlp.fc2",
    "decoder.decoder_norm": "decoder_norm",
    "decoder.decoder_pred": "decoder_pred",
}
# The decoder is the neck there, and the names inside of it are ours but for one.
MMPRETRAIN = {name: re.sub(r"^decoder\.", "neck.", name) for name in OFFICIAL}
MMPRETRAIN["decoder.decoder_norm"] = "neck.ln1"


@dataclass(frozen=True)
class Codebase:
    """How a codebase stores a pretraining checkpoint.

    Attributes:
        names: Name in this package -> name there, as in the tables above.
        wrapper: Entry of a torch file that holds the tensors.
        spare: Prefixes of tensors that belong to neither encoder nor decoder.
    """

    names: dict[str, str]
    wrapper: str
    spare: tuple[str, ...] = ()

    def name(self, ours: str) -> str:
        """The name there of a tensor here, e.g. of 'backbone.layers.3.ln1.weight'."""
        number = re.search(r"\.(\d+)\.", ours)
        stem = re.sub(r"\.\d+\.", ".#.", ours, count=1)
        suffix = "" if stem in self.names else stem[stem.rindex(".") :]
        theirs = self.names[stem.removesuffix(suffix)] + suffix
        return theirs.replace("#", number[1]) if number else theirs


CODEBASES = {
    "milan_mm": Codebase({name: name for name in MMPRETRAIN}, "state_dict"),
    "official": Codebase(OFFICIAL, "model"),
    # mmpretrain stores the frozen teacher too; its model reads the teacher from a file of its own
    "mmpretrain": Codebase(MMPRETRAIN, "state_dict", spare=("target_generator.",)),
}
SUFFIXES = (".pth", ".pt", ".safetensors")
# These two together identify a layout.
_MARKERS = ("backbone.patch_embed.projection.weight", "decoder.decoder_embed.weight")


@dataclass(frozen=True)
class Sizes:
    """The sizes that the tensors show; the numbers of heads leave no trace in a file.

    Attributes:
        embed_dims, num_layers: Width D and blocks of the encoder.
        patch_size: Side of a patch in pixels.
        num_tokens: Rows of both position tables, 1+L.
        decoder_embed_dims, decoder_layers: Width E and blocks of the decoder.
        target_dims: Width C of the prediction.
        prompting: MILAN's prompting decoder; otherwise MAE's.
    """

    embed_dims: int
    num_layers: int
    patch_size: int
    num_tokens: int
    decoder_embed_dims: int
    decoder_layers: int
    target_dims: int
    prompting: bool


@dataclass(frozen=True)
class ConversionReport:
    """What became of the content of a file."""

    source: str
    found: str
    to: str
    sizes: Sizes
    num_tensors: int
    num_parameters: int
    dropped: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        s = self.sizes
        decoder = "prompting decoder (MILAN)" if s.prompting else "MAE's decoder"
        lines = [
            f"{self.source}: layout {self.found}",
            f"  encoder      {s.num_layers} blocks {s.embed_dims} wide, patches of {s.patch_size} "
            f"pixels, {s.num_tokens} tokens",
            f"  decoder      {decoder}, {s.decoder_layers} blocks {s.decoder_embed_dims} wide, "
            f"predicts {s.target_dims} values per token",
            f"  converted    {self.num_tensors} tensors, {self.num_parameters:,} values, to layout "
            f"{self.to}",
        ]
        if self.dropped:
            teacher = "the teacher, which every training reads anew"
            lines.append(f"  dropped      {len(self.dropped)} tensors of {teacher}")
        entries = ", ".join(self.left_behind) or "nothing"
        lines.append(f"  left behind  {entries} (weights only: no optimizer state is converted)")
        return "\n".join(lines)


def convert_checkpoint(source: str | Path, out: str | Path, to: str) -> ConversionReport:
    """Convert a complete pretraining checkpoint and write it, atomically.

    Args:
        source: See `read_checkpoint`.
        out: New file; an existing one is replaced in one step. `.safetensors` holds the tensors
            alone; `.pth` and `.pt` are torch files with the layout's wrapper around them.
        to: A key of `CODEBASES`.

    Raises:
        MissingFileError, UserError: When the source is not a complete checkpoint in a known layout,
            or `out` cannot be written to. Nothing is written then.
    """
    source, out = Path(source), Path(out)
    if out.suffix not in SUFFIXES:
        raise UserError(f"output '{out}' must end in one of {', '.join(SUFFIXES)}")
    if source.resolve() == out.resolve():
        raise UserError(f"output '{out}' is the source itself: give another name")
    checkpoint = read_checkpoint(source)
    state_dict, left_behind = _unwrap(checkpoint, source)
    converted, report = convert_state_dict(state_dict, to, source)
    report = replace(report, left_behind=left_behind)
    metadata = dict(format="pt", layout=to, source=source.name)
    if out.suffix == ".safetensors":
        metadata["sha256"] = tensors_sha256(converted)
        save_tensors(out, converted, metadata)
    else:
        with replacing(out) as partial:
            torch.save({CODEBASES[to].wrapper: converted}, partial)
    return report


def convert_state_dict(
    state_dict: dict[str, Tensor], to: str, source: str | Path
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename the tensors of a complete checkpoint; none is copied or changed.

    Args:
        state_dict: Encoder and decoder under the names of one layout, which is detected.
        to: A key of `CODEBASES`.
        source: Its name, for errors and the report.

    Raises:
        UserError: When no layout or more than one fits, and when a tensor is missing, unknown or
            of a shape that contradicts the others.
    """
    if to not in CODEBASES:
        raise UserError(f"layout '{to}' is unknown: choose from {', '.join(CODEBASES)}")
    found = detect_layout(state_dict, source)
    codebase = CODEBASES[found]
    dropped = [name for name in state_dict if name.startswith(codebase.spare)]
    kept = {n: tensor for n, tensor in state_dict.items() if not n.startswith(codebase.spare)}
    sizes = _measure(kept, codebase, source)
    shapes = tensor_shapes(sizes)
    names = {codebase.name(ours): ours for ours in shapes}
    _refuse(source, found, "is missing", [name for name in names if name not in kept])
    _refuse(source, found, "has unknown", [name for name in kept if name not in names])
    for name, ours in names.items():
        if _shape(kept[name]) != shapes[ours]:
            raise UserError(
                f"{source}: '{name}' is {_shape(kept[name])}, the other tensors ask for "
                f"{shapes[ours]}: the file is damaged or of another architecture"
            )
    converted = {CODEBASES[to].name(ours): kept[name] for name, ours in names.items()}
    num_parameters = sum(tensor.numel() for tensor in converted.values())
    report = ConversionReport(
        str(source), found, to, sizes, len(converted), num_parameters, dropped
    )
    return converted, report


def detect_layout(state_dict: dict, source: str | Path) -> str:
    """The key of `CODEBASES` whose names a checkpoint has; whole names decide.

    Raises:
        UserError: When no layout fits, or more than one does.
    """
    markers = {key: [codebase.name(m) for m in _MARKERS] for key, codebase in CODEBASES.items()}
    found = [key for key, names in markers.items() if all(name in state_dict for name in names)]
    if len(found) == 1:
        return found[0]
    if found:
        parts = " and ".join(f"{key} ('{markers[key][1]}')" for key in found)
        raise UserError(f"{source} fits more than one layout, {parts}: keep one of the decoders")
    half = [names for names in markers.values() if any(name in state_dict for name in names)]
    halves = sorted({name for names in half for name in names})
    if halves:
        have = ", ".join(f"'{name}'" for name in halves if name in state_dict)
        missing = " or ".join(f"'{name}'" for name in halves if name not in state_dict)
        raise UserError(
            f"{source} holds {have}, but not {missing}: only complete pretraining checkpoints, "
            "with encoder and decoder, are converted"
        )
    first = ", ".join(str(name) for name in list(state_dict)[:3])
    raise UserError(
        f"{source} holds no pretraining checkpoint of {', '.join(CODEBASES)}; its first names are: "
        f"{first}"
    )


def tensor_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Name here and shape of every tensor of a complete checkpoint."""
    dims, width = sizes.embed_dims, sizes.decoder_embed_dims
    parameters: dict[str, tuple[int, ...]] = {
        "backbone.cls_token": (1, 1, dims),
        "backbone.pos_embed": (1, sizes.num_tokens, dims),
        "decoder.mask_token": (1, 1, width),
        "decoder.decoder_pos_embed": (1, sizes.num_tokens, width),
    }
    weights: dict[str, tuple[int, ...]] = {
        "backbone.patch_embed.projection": (dims, 3, sizes.patch_size, sizes.patch_size),
        "backbone.ln1": (dims,),
        "decoder.decoder_embed": (width, dims),
        "decoder.decoder_norm": (width,),
        "decoder.decoder_pred": (sizes.target_dims, width),
    }
    for i in range(sizes.num_layers):
        weights |= _block_shapes(f"backbone.layers.{i}", dims, prompting=False)
    for i in range(sizes.decoder_layers):
        weights |= _block_shapes(f"decoder.decoder_blocks.{i}", width, sizes.prompting)
    for module, shape in weights.items():
        parameters[f"{module}.weight"] = shape
        parameters[f"{module}.bias"] = shape[:1]
    return parameters


def _block_shapes(block: str, dims: int, prompting: bool) -> dict[str, tuple[int, ...]]:
    """Module -> shape of its weight, in one transformer block."""
    attention = dict(q=1, kv=2) if prompting else dict(qkv=3)  # name -> times the width
    return {
        f"{block}.ln1": (dims,),
        **{f"{block}.attn.{name}": (times * dims, dims) for name, times in attention.items()},
        f"{block}.attn.proj": (dims, dims),
        f"{block}.ln2": (dims,),
        f"{block}.ffn.layers.0.0": (4 * dims, dims),
        f"{block}.ffn.layers.1": (dims, 4 * dims),
    }


def _unwrap(checkpoint: dict, source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint by name, and the names of its other entries."""
    wrappers = sorted({codebase.wrapper for codebase in CODEBASES.values()} & checkpoint.keys())
    if len(wrappers) > 1:
        raise UserError(f"{source} holds weights under {' and '.join(wrappers)}: keep one of them")
    if not wrappers:
        return checkpoint, []
    state_dict = checkpoint[wrappers[0]]
    if not isinstance(state_dict, dict):
        raise UserError(f"{source}: '{wrappers[0]}' is a {type(state_dict).__name__}, not a dict")
    return state_dict, [str(name) for name in checkpoint if name != wrappers[0]]


def _measure(state_dict: dict[str, Tensor], codebase: Codebase, source: str | Path) -> Sizes:
    """Read the sizes off a few tensors; whether the others agree is checked later."""

    def shape(ours: str, num_dims: int) -> tuple[int, ...]:
        name = codebase.name(ours)
        if name not in state_dict:
            raise UserError(f"{source} is missing '{name}': the checkpoint is not complete")
        found = _shape(state_dict[name])
        if len(found) != num_dims:
            raise UserError(f"{source}: '{name}' is {found}, it needs {num_dims} dimensions")
        return found

    def count(block: str) -> int:
        prefix = codebase.names[f"{block}.#.ln1"].partition("#")[0]
        rests = [name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)]
        numbers = {number for rest in rests if (number := rest.partition(".")[0]).isdecimal()}
        if not numbers:
            raise UserError(f"{source} holds no blocks '{prefix}*': the checkpoint is not complete")
        return len(numbers)

    def has_attention(kind: str) -> bool:
        block = codebase.names[f"decoder.decoder_blocks.#.attn.{kind}"]
        names = (f"{block.replace('#', str(i))}.weight" for i in range(decoder_layers))
        return any(name in state_dict for name in names)

    dims, _, patch_size, _ = shape("backbone.patch_embed.projection.weight", 4)
    target_dims, width = shape("decoder.decoder_pred.weight", 2)
    decoder_layers = count("decoder.decoder_blocks")
    if has_attention("q") and has_attention("qkv"):
        raise UserError(f"{source} mixes blocks of MILAN's and of MAE's decoder")
    return Sizes(
        embed_dims=dims,
        num_layers=count("backbone.layers"),
        patch_size=patch_size,
        num_tokens=shape("backbone.pos_embed", 3)[1],
        decoder_embed_dims=width,
        decoder_layers=decoder_layers,
        target_dims=target_dims,
        prompting=has_attention("q"),
    )


def _shape(value: object) -> tuple[int, ...]:
    """The shape of a tensor; that of a scalar for anything else that a file may hold."""
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _refuse(source: str | Path, layout: str, verb: str, names: list[str]) -> None:
    if names:
        raise UserError(f"{source} {verb} tensors of layout {layout}: {some(names)}")
