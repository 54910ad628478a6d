"""Facts from timm's config.json: its architecture and `model_args` decide what the tensors mean.

timm itself builds the model that the config names, without numbers ("meta" device), and its parts
are looked at. So every argument that timm understands is honoured, and a design that `PlainViT`
does not have is refused, also where no tensor shows it.
"""

import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import (
    GluMlp,
    Mlp,
    PatchEmbed,
    RmsNorm,
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    SwiGLU,
)
from timm.layers.attention import Attention, AttentionRope
from timm.models import beit, deit, eva, vision_transformer
from torch import nn

from milan_mm.errors import UserError
from milan_mm.models.positions import ROPE_KINDS, RopeKind
from milan_mm.weights.folders import CONFIG
from milan_mm.weights.stated.facts import HubFacts, oblong
from milan_mm.weights.statistics import stats_text
from milan_mm.weights.systems import SYSTEMS, timm_system

# Class of an activation in timm -> activation here.
ACTS = {"GELU": "GELU", "GELUTanh": "GELUTanh", "QuickGELU": "QuickGELU"}
_MODELS = (
    vision_transformer.VisionTransformer,
    deit.VisionTransformerDistilled,
    beit.Beit,
    eva.Eva,
)
_BLOCKS = (vision_transformer.Block, beit.Block, eva.EvaBlock)
_ATTENTIONS = (Attention, AttentionRope, beit.Attention, eva.EvaAttention)
_NORMS = (nn.LayerNorm, RmsNorm)
MAX_ARGUMENT = 100_000  # no size of a ViT is larger; more would take for ever to build


def timm_facts(config: dict, folder: Path) -> HubFacts:
    """What a config.json of timm states.

    Args:
        config: With `architecture`, and `pretrained_cfg` unless timm was older than 0.8.

    Raises:
        UserError: When timm cannot build the model, or it is not a plain ViT.
    """
    where = f"'{folder / CONFIG}'"
    pretrained = config.get("pretrained_cfg", config)
    if not isinstance(pretrained, dict):
        raise UserError(f"{where} is damaged: pretrained_cfg={pretrained!r}")
    name, args = config["architecture"], config.get("model_args") or {}
    if not is_known(name):
        return HubFacts(foreign=_unknown(name))
    facts = model_facts(name, args, where)
    mean, std = pretrained.get("mean"), pretrained.get("std")
    pooling = {"token": "cls", "avg": "mean", "map": "pool"}.get(str(config.get("global_pool")))
    return HubFacts(
        **facts,
        system=timm_system(f"{name}.{pretrained.get('tag', '')}"),
        stats=None if mean is None or std is None else stats_text(mean, std, where),
        pooling=pooling,
    )


def is_known(name: object) -> bool:
    """Whether the installed timm has this architecture."""
    return isinstance(name, str) and timm.is_model(name)


def model_facts(name: str, args: object, where: str) -> dict[str, Any]:
    """Options of `PlainViT`, as fields of `HubFacts`, of one of timm's architectures.

    Args:
        name: Of the architecture, see `is_known`.
        args: Of the model, by name.
        where: Which config, for messages.

    Raises:
        UserError: See `timm_facts`.
    """
    model = _build(name, args, where)
    if design := _foreign_design(model, timm_system(name)):
        raise UserError(
            f"{where} says architecture '{name}', timm's {type(model).__name__} with {design}: not "
            "a plain ViT as it is here, and its tensors alone would compute something else"
        )
    block: Any = model.blocks[0]
    rope = getattr(model, "rope", None)
    norm, act = block.norm1, _act(block.mlp)
    if act is None:
        raise UserError(f"{where}: activation {block.mlp.act} is not one of {', '.join(ACTS)}")
    tokens = getattr(model, "reg_token", None)
    registers = 0 if tokens is None else tokens.shape[1]
    return dict(
        embed_dims=model.embed_dim,
        img_size=None if rope is not None else _square(model.patch_embed.img_size),
        oblong=oblong(model.patch_embed.img_size),
        patch_size=_square(model.patch_embed.patch_size),
        num_layers=len(model.blocks),
        num_heads=block.attn.num_heads,
        norm_eps=norm.eps,
        act=act,
        final_norm=not isinstance(model.norm, nn.Identity),
        num_registers=registers + hasattr(model, "dist_token"),
        **_rope(rope, block),
    )


def _unknown(name: object) -> str:
    return f"{CONFIG} says architecture {name!r} (not one of timm {timm.__version__})"


def _build(name: str, args: object, where: str) -> Any:
    """The model, without numbers. `timm.create_model` would also download what a name asks for."""
    numbers = _numbers([args])
    if not isinstance(args, dict) or any(abs(number) > MAX_ARGUMENT for number in numbers):
        raise UserError(f"{where} says model_args={args!r}, with which no model is built here")
    given = {key: value for key, value in args.items() if value is not None}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that timm has replaced
            return timm.model_entrypoint(name)(pretrained=False, **given)
    except Exception as error:  # whatever arguments lead to
        raise UserError(f"{where}: timm cannot build '{name}' with {args}: {error}") from None


def _numbers(values: list) -> list[float]:
    """All numbers in nested lists and dicts."""
    found: list[float] = []
    while values:
        value = values.pop()
        if isinstance(value, list | tuple):
            values.extend(value)
        elif isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(value)
    return found


def _foreign_design(model: nn.Module, system: str | None) -> str:
    """What `PlainViT` does not have and no tensor may show; '' where there is nothing."""
    if type(model) not in _MODELS:
        return "another structure"
    vit: Any = model
    block: Any = vit.blocks[0] if len(vit.blocks) else None
    if type(block) not in _BLOCKS:
        return f"blocks of type {type(block).__name__}"
    if type(vit.patch_embed) is not PatchEmbed:
        return f"patches by {type(vit.patch_embed).__name__}"
    if type(block.attn) not in _ATTENTIONS:
        return f"attention of type {type(block.attn).__name__}"
    norms = [block.norm1, block.norm2, vit.norm, getattr(vit, "norm_pre", None)]
    norms += [getattr(block.attn, name, None) for name in ("q_norm", "k_norm", "norm")]
    norms += [getattr(block.mlp, "norm", None), vit.patch_embed.norm]
    norms = [norm for norm in norms if norm is not None and not isinstance(norm, nn.Identity)]
    for norm in norms:
        if not isinstance(norm, _NORMS):
            return f"norms of type {type(norm).__name__}"
    if len({norm.eps for norm in norms}) > 1:
        return "norms of two epsilons"
    if len({isinstance(norm, RmsNorm) for norm in norms}) > 1:
        return "norms of two types"
    if not isinstance(block.norm1, _NORMS) or type(block.mlp) not in (Mlp, GluMlp, SwiGLU):
        return f"an MLP of type {type(block.mlp).__name__}"
    if type(block.mlp) in (GluMlp, SwiGLU) and _act(block.mlp) != "SwiGLU":
        return f"an MLP gated by {type(block.mlp.act).__name__}"
    if getattr(block.attn, "gate", None) is not None:
        return "gated attention"
    if getattr(block.attn, "num_kv_heads", block.attn.num_heads) != block.attn.num_heads:
        return "several heads that share keys"
    if any(getattr(vit, name, 0) for name in ("pool_include_prefix", "use_post_norm")):
        return "a pooling over all tokens"
    rope = getattr(vit, "rope", None)
    if rope is not None and not _rope(rope, block):
        return "rotary positions of a kind that is not known here"
    if rope is not None and not (system and SYSTEMS[system].has_rope):
        return "rotary positions, which its system is not known to have"
    return ""


def _rope(rope: nn.Module | None, block: Any) -> dict[str, Any]:
    """Options of rotary positions, as fields of `HubFacts`; empty where there are none like them.

    Only what `PlainViT` builds of the same options, up to values that differ in no evaluation.
    """
    if rope is None:
        return {}
    halves = bool(getattr(block.attn, "rotate_half", False))
    if isinstance(rope, RotaryEmbeddingDinoV3) and halves and _is_dinov3(rope):
        return dict(rope_base=rope.temperature, rope_kind="dinov3")
    if type(rope) is not RotaryEmbeddingCat or rope.in_pixels or rope.grid_type != "index":
        return {}
    by_column = rope.grid_indexing == "xy"
    own = RopeKind(int(rope.grid_offset), column_first=by_column, halves=halves)
    kind = next((name for name, rule in ROPE_KINDS.items() if rule == own), None)
    if kind is None or own.first != rope.grid_offset:
        return {}
    grid = None if rope.ref_feat_shape is None else tuple(rope.ref_feat_shape)
    if by_column and grid not in (None, tuple(rope.feat_shape or ())):
        return {}  # PE, whose own code does not scale the numbers of patches
    return dict(rope_base=rope.temperature, rope_kind=kind, rope_grid=grid)


def _is_dinov3(rope: nn.Module) -> bool:
    """Whether rotary positions are those that `PlainViT` builds, up to their base."""
    if type(rope) is not RotaryEmbeddingDinoV3:
        return False
    ours = RotaryEmbeddingDinoV3(rope.dim, temperature=rope.temperature)
    plain = (int, float, str, bool, type(None))
    skipped = ("training", "feat_shape")
    return all(
        vars(ours).get(name) == value
        for name, value in vars(rope).items()
        if isinstance(value, plain) and name not in skipped
    )


def _act(mlp: Any) -> str | None:
    """Activation of an MLP here; None for one that is not known."""
    act = mlp.act
    if type(mlp) in (GluMlp, SwiGLU):
        gates_first = type(mlp) is SwiGLU or not mlp.gate_last
        return "SwiGLU" if gates_first and isinstance(act, nn.SiLU) else None
    if isinstance(act, nn.GELU) and act.approximate == "tanh":
        return "GELUTanh"
    return ACTS.get(type(act).__name__)


def _square(size: Any) -> int | None:
    """The side of a square; None for other sizes."""
    sides = set(size) if isinstance(size, list | tuple) else {size}
    return int(sides.pop()) if len(sides) == 1 and None not in sides else None
