"""Load a pretrained encoder into a `PlainViT`: every tensor, or an error names the missing ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from timm.layers import resample_patch_embed
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.files import replacing
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.positions import resize_pos_embed
from milan_mm.models.relative_bias import resize_bias_table
from milan_mm.models.relative_positions import resize_rel_pos
from milan_mm.models.vit_options import pair
from milan_mm.registry import WEIGHT_INITIALIZERS
from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.finding import some
from milan_mm.weights.position_rows import square_side
from milan_mm.weights.recognising import read_encoder

# A task may do without these tensors of the file ...
SPARE_NAMES = ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias", "cls_token")
# ... and, where it has no class token, without the registers, which have no place in windows ...
SPARE_TOKENS = ("register_tokens",)
# ... and start this LayerNorm, which follows the pooling, afresh.
FRESH_NAMES = ("ln2.weight", "ln2.bias")
# Relative positions of detection start at zero: pretrained encoders have none.
REL_POS_NAMES = (".attn.rel_pos_h", ".attn.rel_pos_w")
BIAS_TABLE_NAME = ".attn.relative_position_bias_table"
# Built only where a task asks for what it makes of an image.
POOL_PREFIX = "attn_pool."
POOL_OPTIONS = ("pool_heads", "pool_dims")
PATCH_NAME = "patch_embed.projection.weight"


@WEIGHT_INITIALIZERS.register_module()
class EncoderWeights:
    """The `init_cfg` that loads a pretrained encoder.

    Args:
        checkpoint: See `read_encoder`.
        report: File for the load report, as JSON.
        layout, system, num_heads, student: See `read_encoder`.
    """

    def __init__(
        self,
        checkpoint: str,
        report: str | None = None,
        layout: str | None = None,
        system: str | None = None,
        num_heads: int | None = None,
        student: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.report = report
        self.options: dict[str, Any] = dict(
            layout=layout, system=system, num_heads=num_heads, student=student
        )

    def __call__(self, module: PlainViT) -> None:
        report = load_encoder(module, read_encoder(self.checkpoint, **self.options))
        print_log(str(report), "current")
        if self.report and is_main_process():
            report.save(self.report)


_FATES = ("loaded", "resized", "initialised", "dropped", "left_out")


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, by name.

    Attributes:
        source: The file.
        layout, system: See `Encoder`.
        loaded, resized, initialised: Names in `PlainViT`; what was resized is loaded too.
        dropped: Names in `PlainViT` of tensors that this model does without.
        left_out: Name in the file -> why it is not part of the encoder.
        added: Name in `PlainViT` -> what was made up.
        assumed: Setting -> sentence.
        finetuned: See `Encoder`.
    """

    source: str
    layout: str
    system: str
    loaded: list[str]
    resized: list[str]
    initialised: list[str]
    dropped: list[str]
    left_out: dict[str, str]
    added: dict[str, str]
    assumed: dict[str, str]
    finetuned: str = ""

    def __str__(self) -> str:
        lines = [f"encoder weights from {self.source}"]
        lines.append(f"  taken for         {self.system}, layout {self.layout}")
        if self.finetuned:
            lines.append(f"  finetuned         {self.finetuned}")
        for fate in _FATES:
            names = list(getattr(self, fate))
            shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
            lines.append(f"  {fate.replace('_', ' '):<12}{len(names):>4}  {shown}")
        lines += [f"  assumed      {name}: {sentence}" for name, sentence in self.assumed.items()]
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write counts and names as JSON; the file appears whole."""
        counts = {fate: len(getattr(self, fate)) for fate in _FATES}
        with replacing(path) as partial:
            partial.write_text(json.dumps(dict(counts=counts) | asdict(self), indent=2) + "\n")


def load_encoder(vit: PlainViT, source: str | Path | Encoder, square: bool = False) -> LoadReport:
    """Fill a `PlainViT` from an encoder of any layout.

    Only position tables and square patches may change their size. The file may hold a class token
    and a final LayerNorm that the model does without; the model may add the LayerNorm after
    pooling, and relative positions where the file has none at all.

    Args:
        vit: The encoder to fill, in place; untouched when an error is raised.
        source: A file, see `read_encoder`, or what was read from it.
        square: Its position table is for square images. Otherwise a table that has as many rows as
            a model's grid of another shape is refused, since it may be for either.

    Raises:
        MissingFileError, UserError: When a tensor is missing, unknown or of another shape, and
            when the file needs an option that the model does not have.
    """
    encoder = source if isinstance(source, Encoder) else read_encoder(source)
    path, tensors = encoder.source, encoder.state_dict
    check_options(encoder, vit)
    target = vit.state_dict()
    initialised = [name for name in target if name not in tensors]
    dropped = [name for name in tensors if name not in target]
    has_rel_pos = any(name.endswith(REL_POS_NAMES) for name in tensors)
    fresh = [n for n in target if n.endswith(REL_POS_NAMES) and not has_rel_pos] + [*FRESH_NAMES]
    spare = SPARE_NAMES if vit.with_cls_token else SPARE_NAMES + SPARE_TOKENS
    _refuse(path, "is missing", [name for name in initialised if name not in fresh])
    foreign = [n for n in dropped if n not in spare and not n.startswith(POOL_PREFIX)]
    _refuse(path, "has unknown", foreign)
    filled: dict[str, Tensor] = {}
    resized = []
    for name, tensor in tensors.items():
        if name not in target:
            continue
        fitted = _fit(name, tensor, vit, encoder, target[name], square)
        if fitted.shape != tensor.shape:
            resized.append(f"{name} {tuple(tensor.shape)} to {tuple(fitted.shape)}")
        if fitted.shape != target[name].shape:
            raise UserError(
                f"{path}: '{name}' is {tuple(tensor.shape)}, the model needs "
                f"{tuple(target[name].shape)}: the file belongs to another architecture"
            )
        filled[name] = fitted.to(target[name].dtype)
    vit.load_state_dict(target | filled)
    return LoadReport(
        source=path,
        layout=encoder.layout,
        system=encoder.system,
        loaded=list(filled),
        resized=resized,
        initialised=initialised,
        dropped=dropped,
        left_out=encoder.dropped,
        added=encoder.added,
        assumed=encoder.assumed,
        finetuned=encoder.finetuned,
    )


def check_options(encoder: Encoder, vit: PlainViT) -> None:
    """Refuse a model that would compute something else from these weights.

    What the file does not settle (`encoder.assumed`) may be set to anything.

    Raises:
        UserError: Naming the options to set.
    """
    has, needs = model_options(vit), encoder.settings
    wrong = []
    for name in DEFAULTS:
        if name == "num_registers" and not vit.with_cls_token and not has[name]:
            continue  # a model without class token does without the registers too
        if name in POOL_OPTIONS and not vit.options.with_pool:
            continue  # it builds no pooling of its own
        if name == "pos_resize":  # written out, it is the choice of a user or a recipe
            own = vit.options.pos_resize is not None or not needs["with_pos_embed"]
            fits = own or has[name] == needs[name]
        elif name in ("layer_scale", "rel_pos_bias_grid"):  # initial value, resized table
            fits = (has[name] is None) == (needs[name] is None)
        else:
            fits = has[name] == needs[name] or (name in encoder.assumed and bool(has[name]))
        if not fits:
            wrong.append(name)
    if wrong:
        settings = ", ".join(f"{name}={needs[name]!r}" for name in wrong)
        present = ", ".join(f"{name}={has[name]!r}" for name in wrong)
        raise UserError(
            f"{encoder.source} needs a model.backbone with {settings}; this one has {present}"
        )
    heads, model_heads = needs["arch"].get("num_heads"), vit.options.num_heads
    if heads not in (None, model_heads) and "num_heads" not in encoder.assumed:
        raise UserError(
            f"{encoder.source} has {heads} attention heads, this model.backbone {model_heads}: set "
            "model.backbone.arch"
        )


def model_options(vit: PlainViT) -> dict[str, Any]:
    """The options in `DEFAULTS` as a model has them."""
    hidden = vit.options.hidden_dims
    return {name: getattr(vit.options, name) for name in DEFAULTS} | dict(
        pos_resize=vit.options.resize_rule,
        mlp_dims=None if hidden == 4 * vit.embed_dims else hidden,
    )


def _fit(
    name: str, tensor: Tensor, vit: PlainViT, encoder: Encoder, target: Tensor, square: bool
) -> Tensor:
    """Resize positions and patches to the model; everything else is returned as it is."""
    if name == PATCH_NAME and tensor.shape[2:] != target.shape[2:]:
        # arXiv 2212.08013: an image that is scaled like its patches keeps its tokens
        return resample_patch_embed(tensor, list(target.shape[2:]))
    if name == "pos_embed":
        return _fit_pos_embed(tensor, vit, "cls_token" in encoder.state_dict, square)
    if name.endswith(BIAS_TABLE_NAME):
        return _fit_bias_table(tensor, vit, encoder)
    if name.endswith(REL_POS_NAMES) and tensor.ndim == 2:
        return resize_rel_pos(tensor, len(target))
    return tensor


def _fit_bias_table(table: Tensor, vit: PlainViT, encoder: Encoder) -> Tensor:
    """Resize a table of relative position bias; a model without class token takes no row of it."""
    assert vit.options.rel_pos_bias_grid is not None  # see `check_options`
    src, dst = encoder.settings["rel_pos_bias_grid"], pair(vit.options.rel_pos_bias_grid)
    has_cls_token = "cls_token" in encoder.state_dict
    if has_cls_token and not vit.with_cls_token:
        table, has_cls_token = table[:-3], False
    return resize_bias_table(table, src, dst, has_cls_token)


def _fit_pos_embed(table: Tensor, vit: PlainViT, has_cls_token: bool, square: bool) -> Tensor:
    """Resize a square table to the model's grid; keep the class token's row where it is wanted.

    A table that does not fit is returned as it is, for the shape check to refuse.

    Raises:
        UserError: When the rows fit two grids, and nobody says that theirs is square.
    """
    if has_cls_token and not vit.with_cls_token:
        table = table[:, 1:]
    num_rows = table.shape[1] - int(has_cls_token and vit.with_cls_token)
    side = square_side(num_rows)
    if not side or (side, side) == vit.grid_size:
        return table
    if num_rows == vit.num_patches and not square:
        raise UserError(
            f"pos_embed has {num_rows} rows, a grid of {side}x{side} or of "
            f"{vit.grid_size[0]}x{vit.grid_size[1]}: give the model the img_size of the pretraining"
        )
    return resize_pos_embed(table, (side, side), vit.grid_size, vit.options.resize_rule)


def _refuse(path: str | Path, verb: str, names: list[str]) -> None:
    if names:
        raise UserError(f"{path} {verb} tensors of the encoder: {some(names)}")
