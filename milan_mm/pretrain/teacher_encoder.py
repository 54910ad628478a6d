"""Any pretrained plain ViT as a teacher: SigLIP 2, DINOv3, EVA-CLIP, all that `--weights` takes.

`milan_mm.weights` reads the file, strictly, and says what it is: architecture, statistics, pooling.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.pretrain.teacher import Teacher
from milan_mm.pretrain.tower import fold_quick_gelu, warn_of_random_weights
from milan_mm.registry import MODELS
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.finding import find_encoder
from milan_mm.weights.layouts import reasons
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder, recognise
from milan_mm.weights.stated.timm import timm_facts
from milan_mm.weights.statistics import stats_values

SOURCES = ("cls", "pool")


@MODELS.register_module()
class EncoderTeacher(Teacher):
    """The encoder of any weights file; the target is its tokens after the final norm.

    Without a class token there is no target for the student's; patches have theirs as usual.

    Args:
        pretrained: What `--weights` of the tools takes: a file, a folder of Hugging Face or timm, a
            name on the hub ('hf:OWNER/NAME') or of a shipped encoder. Or 'timm' for the weights
            that timm publishes as `model_name`, or 'random' for trials of speed and plumbing.
        input_stats: See `Teacher`.
        stats: `dict(mean, std)` that the teacher is to see, in 0-255 RGB; None takes those that its
            file belongs to.
        model_name: An architecture of timm, e.g. 'vit_base_patch16_siglip_224.v2_webli'. Files need
            none, but `--quick` and other trials without the file do.
        grid_size, num_target_layers: See `Teacher`.
        importance: 'cls' for the attention of the class token, 'pool' for that of the encoder's own
            attention pooling, which SigLIP and PE have; None takes the one that makes the vector of
            an image there. The patches' shares of it sum to 1: class token and registers are left
            out.
        projection: Name in the file of the matrix that follows the final norm, e.g. 'visual.proj'
            of a CLIP; None projects to nothing. A name that ends in '.weight' is of a linear layer,
            (C, D), whose bias is taken too; others are (D, C).
        layout, system, num_heads, student: See `read_encoder`.

    Raises:
        MissingFileError, UserError: When the file holds no encoder that `PlainViT` can be, and when
            it has not what is asked for.
    """

    def __init__(
        self,
        pretrained: str,
        input_stats: dict,
        stats: dict | None = None,
        model_name: str | None = None,
        grid_size: tuple[int, int] | None = None,
        num_target_layers: int = 1,
        importance: str | None = None,
        projection: str | None = None,
        layout: str | None = None,
        system: str | None = None,
        num_heads: int | None = None,
        student: bool = False,
    ) -> None:
        options: dict[str, Any] = dict(
            layout=layout, system=system, num_heads=num_heads, student=student
        )
        content: Mapping[str, Any] | None = None
        is_random = pretrained == "random"
        with torch.device("cpu"):  # also of a model without memory: layouts are known by values
            if is_random or pretrained == "timm":
                encoder, content = _timm_encoder(model_name, is_random)
            else:
                encoder = read_encoder(pretrained, **options)
        source = _importance_source(encoder, importance)
        stats = stats or stats_in_bytes(encoder)
        super().__init__(
            encoder.source,
            _Built(encoder, is_random),
            input_stats,
            stats,
            grid_size,
            num_target_layers,
        )
        self.importance_from = source
        if projection:
            if content is None:
                content = read_checkpoint(encoder.source)
            tensors = find_encoder(content, encoder.source, layout, student).state_dict
            self.projection = _projection(tensors, projection, encoder)
            self.target_dims = self.projection.out_features

    def encode(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Teacher.encode`; the importance of an image sums to 1."""
        features, importance = super().encode(imgs)
        return features, None if importance is None else _shares(importance)

    def class_attention(self, imgs: Tensor) -> Tensor:
        """See `Teacher.class_attention`; sums to 1."""
        return _shares(super().class_attention(imgs))


class _Built:
    """What a `Teacher` is made of, from what was read of a file."""

    projection: Tensor | None = None

    def __init__(self, encoder: Encoder, is_random: bool) -> None:
        self.encoder, self.is_random = encoder, is_random

    def build(self, grid_size: tuple[int, int] | None = None) -> PlainViT:
        """The encoder with its weights; its positions are resized by the rule of its system."""
        settings = self.encoder.model_settings()
        if grid_size:
            side = settings["patch_size"]
            settings["img_size"] = (grid_size[0] * side, grid_size[1] * side)
        with torch.random.fork_rng(devices=[]):  # the student's start depends on the seed only
            vit = PlainViT(**settings, **self.encoder.dense, out_type="raw")
        if not self.is_random:
            load_encoder(vit, self.encoder, square=True)
        return fold_quick_gelu(vit)


def stats_in_bytes(encoder: Encoder) -> dict[str, list[float]]:
    """The statistics of an encoder, as configs state them: of R, G, B in 0-255."""
    mean, std = stats_values(encoder.stats)
    return dict(mean=[255 * x for x in mean], std=[255 * x for x in std])


def _timm_encoder(model_name: str | None, is_random: bool) -> tuple[Encoder, dict[str, Tensor]]:
    """timm's model of a name, and all of its tensors, which are zeros for random weights."""
    if not model_name or not timm.is_model(model_name):
        wrong = f"'{model_name}' is not an architecture of timm" if model_name else "is not set"
        raise UserError(
            f"teacher.model_name {wrong}, and teacher.pretrained names no file: give it one, or "
            "set model_name to a name like 'vit_base_patch16_siglip_224.v2_webli'"
        )
    if is_random:
        warn_of_random_weights(model_name)
    try:
        with torch.device("meta") if is_random else nullcontext():
            model: Any = timm.create_model(model_name, pretrained=not is_random)
    except Exception as error:  # no network, a damaged download
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UserError(
            f"weights 'timm' of teacher '{model_name}' could not be loaded: {reason} - give the "
            "path of a local file"
        ) from error
    tensors = model.state_dict()
    if is_random:  # `PlainViT` starts by itself
        tensors = {n: torch.zeros(t.shape) for n, t in tensors.items()}
    config = dict(
        architecture=model_name.split(".")[0],
        pretrained_cfg=dict(model.pretrained_cfg),
        global_pool=getattr(model, "global_pool", None),
    )
    facts = timm_facts(config, Path(model_name))
    return recognise(tensors, model_name, facts=facts), tensors


def _importance_source(encoder: Encoder, wanted: str | None) -> str | None:
    """Key of `SOURCES`: where the importance of patches comes from; None for nowhere."""
    if wanted not in (None, *SOURCES):
        raise UserError(f"teacher.importance '{wanted}' is unknown: choose from {SOURCES} or None")
    has = [
        name
        for name, is_there in (
            ("cls", encoder.settings["with_cls_token"]),
            ("pool", bool(encoder.settings["pool_heads"])),
        )
        if is_there
    ]
    if wanted and wanted not in has:
        part = "class token" if wanted == "cls" else "attention pooling"
        remedy = f"set it to '{has[0]}'" if has else "leave it out, and use UniformMaskGenerator"
        raise UserError(
            f"teacher.importance is '{wanted}', and {encoder.source} has no {part}: {remedy}"
        )
    usual = "pool" if encoder.pooling == "pool" else "cls"
    return wanted or (usual if usual in has else next(iter(has), None))


def _projection(tensors: Mapping[str, Any], name: str, encoder: Encoder) -> nn.Linear:
    """A linear layer behind the encoder, by the name of its matrix in the file."""
    width = encoder.settings["arch"]["embed_dims"]
    axis = 1 if name.endswith(".weight") else 0
    matrix = tensors.get(name)
    if not isinstance(matrix, Tensor) or matrix.ndim != 2 or matrix.shape[axis] != width:
        has = f"'{name}' is {_shape(matrix)}" if name in tensors else f"there is no '{name}'"
        fitting = [other for other in tensors if _fits(other, tensors[other], encoder)]
        remedy = f"set it to one of {', '.join(fitting[:4])}" if fitting else "leave it out"
        raise UserError(
            f"teacher.projection '{name}' cannot follow tokens of width {width} in "
            f"{encoder.source}, where {has}: {remedy}"
        )
    matrix = (matrix if axis else matrix.T).detach().float()
    bias = tensors.get(f"{name.removesuffix('weight')}bias") if axis else None
    linear = nn.Linear(width, len(matrix), bias=bias is not None, device="meta")
    values = dict(weight=matrix.contiguous())
    if bias is not None:
        values["bias"] = bias.detach().float()
    linear.load_state_dict(values, assign=True)
    return linear


def _fits(name: str, tensor: object, encoder: Encoder) -> bool:
    """Whether a tensor beside the encoder may be a projection of its tokens."""
    axis = 1 if name.endswith(".weight") else 0
    width = encoder.settings["arch"]["embed_dims"]
    is_matrix = isinstance(tensor, Tensor) and tensor.ndim == 2 and tensor.shape[axis] == width
    why = encoder.dropped.get(name)
    return is_matrix and why in (reasons.TEXT_SPACE, reasons.CLASSIFIER) and "text" not in name


def _shape(value: object) -> str:
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "not a tensor"


def _shares(importance: Tensor) -> Tensor:
    """(B, L) >= 0 so that each row sums to 1; zeros stay."""
    total = importance.sum(dim=-1, keepdim=True)
    return importance / total.clamp_min(torch.finfo(importance.dtype).tiny)
