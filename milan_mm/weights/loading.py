"""Loading a pretrained encoder into a `PlainViT`: all of it arrives, or an error says what not."""

from dataclasses import dataclass, field
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor

from milan_mm.positions import resize_pos_embed
from milan_mm.registry import WEIGHT_INITIALIZERS
from milan_mm.relative import resize_rel_pos
from milan_mm.vit import PlainViT
from milan_mm.weights.reading import read_checkpoint

# Parts of a checkpoint that belong to the pretraining or to a task, not to the encoder.
FOREIGN_PREFIXES = (
    "rpn_head.",
    "roi_head.",
    "decode_head.",
    "auxiliary_head.",
    "decoder.",
    "neck.",
    "head.",
    "target_generator.",
    "data_preprocessor.",
)
# A task may do without these tensors of the file ...
SPARE_NAMES = ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias", "cls_token")
# ... and start this LayerNorm, which follows the pooling, afresh.
FRESH_NAMES = ("ln2.weight", "ln2.bias")
# Relative positions of detection start at zero: pretrained encoders have none.
REL_POS_NAMES = (".attn.rel_pos_h", ".attn.rel_pos_w")


@WEIGHT_INITIALIZERS.register_module()
class EncoderWeights:
    """The `init_cfg` that loads a pretrained encoder: `dict(type='milan_mm.EncoderWeights',
    checkpoint=FILE)`."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: PlainViT) -> None:
        report = load_encoder(module, self.checkpoint)
        print_log(str(report), "current")


@dataclass
class LoadReport:
    """What became of every tensor, by name."""

    source: str
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"encoder weights from {self.source}"]
        for kind in ("loaded", "resized", "initialised", "dropped"):
            names = getattr(self, kind)
            shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
            lines.append(f"  {kind:<12}{len(names):>4}  {shown}")
        return "\n".join(lines)


def load_encoder(vit: PlainViT, path: str | Path) -> LoadReport:
    """Fill a `PlainViT` from a training checkpoint, an exported encoder or an mmpretrain file.

    Only position tables may change their size. The file may hold a class token and a final
    LayerNorm that the model does without; the model may add the LayerNorm after pooling, and
    relative positions where the file has none at all.

    Args:
        vit: The encoder to fill, in place; untouched when an error is raised.
        path: See `read_checkpoint`.

    Raises:
        FileNotFoundError, ValueError: When a tensor is missing, unknown or of another shape.
    """
    source = encoder_state_dict(read_checkpoint(path), path)
    target = vit.state_dict()
    report = LoadReport(source=str(path))
    report.initialised = [name for name in target if name not in source]
    report.dropped = [name for name in source if name not in target]
    adds_rel_pos = not any(name.endswith(REL_POS_NAMES) for name in source)
    fresh = [n for n in target if adds_rel_pos and n.endswith(REL_POS_NAMES)] + [*FRESH_NAMES]
    _refuse(path, "lacks", [n for n in report.initialised if n not in fresh])
    _refuse(path, "holds unknown", [n for n in report.dropped if n not in SPARE_NAMES])
    filled: dict[str, Tensor] = {}
    for name, tensor in source.items():
        if name in report.dropped:
            continue
        if name == "pos_embed":
            tensor, changed = _fit_pos_embed(tensor, vit, has_cls_token="cls_token" in source)
        elif name.endswith(REL_POS_NAMES) and tensor.ndim == 2:
            changed = len(tensor) != len(target[name])
            tensor = resize_rel_pos(tensor, len(target[name]))
        else:
            changed = False
        if changed:
            report.resized.append(f"{name} {tuple(source[name].shape)} to {tuple(tensor.shape)}")
        if tensor.shape != target[name].shape:
            raise ValueError(
                f"{path}: '{name}' is {tuple(tensor.shape)}, the model needs "
                f"{tuple(target[name].shape)}: the file belongs to another architecture"
            )
        filled[name] = tensor.to(target[name].dtype)
        report.loaded.append(name)
    vit.load_state_dict(target | filled)
    return report


def encoder_state_dict(checkpoint: dict, path: str | Path) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint, under the names of `PlainViT`.

    Raises:
        ValueError: When the file holds no encoder in a layout that is known here.
    """
    state_dict = checkpoint.get("state_dict", checkpoint)
    if "backbone.patch_embed.projection.weight" in state_dict:
        prefix = "backbone."
        rest = [n for n in state_dict if not n.startswith((prefix, *FOREIGN_PREFIXES))]
        _refuse(path, "holds unknown", rest)
        state_dict = {
            name.removeprefix(prefix): tensor
            for name, tensor in state_dict.items()
            if name.startswith(prefix)
        }
    if "patch_embed.projection.weight" not in state_dict:
        if isinstance(inner := state_dict.get("model"), dict):
            state_dict = inner
        if "decoder_embed.weight" in state_dict:
            raise ValueError(
                f"{path} is a pretraining checkpoint in the layout of MAE's and MILAN's authors: "
                f"convert it with tools/convert_checkpoint.py {path} NEW.pth --to milan_mm"
            )
        names = ", ".join(str(name) for name in list(state_dict)[:3])
        raise ValueError(
            f"{path} holds no plain-ViT encoder in mmpretrain's naming "
            f"('patch_embed.projection.weight'); its first names are: {names}"
        )
    return dict(state_dict)


def _fit_pos_embed(table: Tensor, vit: PlainViT, has_cls_token: bool) -> tuple[Tensor, bool]:
    """Resize a square table to the model's grid; keep the class token's row where it is wanted.

    Returns the fitted table, and whether it was resized. A table that does not fit is returned as
    it is, for the shape check to refuse. Raises ValueError when the rows fit two grids.
    """
    if has_cls_token and not vit.with_cls_token:
        table = table[:, 1:]
    num_rows = table.shape[1] - int(has_cls_token and vit.with_cls_token)
    side = round(num_rows**0.5)
    if num_rows == vit.num_patches and (side, side) != vit.grid_size and side**2 == num_rows:
        raise ValueError(
            f"pos_embed has {num_rows} rows, a grid of {side}x{side} or of "
            f"{vit.grid_size[0]}x{vit.grid_size[1]}: give the model the img_size of the pretraining"
        )
    if num_rows == vit.num_patches or side**2 != num_rows:
        return table, False
    return resize_pos_embed(table, (side, side), vit.grid_size), True


def _refuse(path: str | Path, verb: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ValueError(f"{path} {verb} {len(names)} tensor(s) of the encoder: {shown}")
