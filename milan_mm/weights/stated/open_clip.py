"""Facts from open_clip_config.json: activation, heads and statistics of an image tower."""

from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.folders import OPEN_CLIP_CONFIG
from milan_mm.weights.stated.facts import HubFacts, oblong
from milan_mm.weights.stated.hugging_face import number
from milan_mm.weights.stated.timm import is_known, model_facts
from milan_mm.weights.statistics import stats_text


def open_clip_facts(config: dict, folder: Path) -> HubFacts:
    """What the file states.

    Raises:
        UserError: When it is not of a plain ViT, or its numbers cannot be meant.
    """
    where = f"'{folder / OPEN_CLIP_CONFIG}'"
    model, preprocess = _dict(config, "model_cfg", where), _dict(config, "preprocess_cfg", where)
    vision = _dict(model, "vision_cfg", where)
    mean, std = preprocess.get("mean"), preprocess.get("std")
    known: dict[str, Any] = dict(
        stats=None if mean is None or std is None else stats_text(mean, std, where),
        named=OPEN_CLIP_CONFIG,
    )
    if name := vision.get("timm_model_name"):
        if not is_known(name):
            return HubFacts(foreign=f"{OPEN_CLIP_CONFIG} says timm_model_name={name!r}")
        return HubFacts(**model_facts(name, {}, where), **known)
    if isinstance(vision.get("layers"), list):
        raise UserError(f"{where} says layers={vision['layers']}, a ResNet: not a plain ViT")
    width = number(vision, "width", where) or 768  # what open_clip takes where nothing is said
    head_width = number(vision, "head_width", where) or 64
    act_args = _dict(vision, "act_kwargs", where)
    act = "QuickGELU" if model.get("quick_gelu") else "GELU"
    if act_args:
        if act_args != {"approximate": "tanh"} or act != "GELU":
            raise UserError(f"{where} says act_kwargs={act_args}, supported is approximate='tanh'")
        act = "GELUTanh"
    return HubFacts(
        embed_dims=width,
        img_size=number(vision, "image_size", where) if _is_number(vision, "image_size") else None,
        oblong=oblong(vision.get("image_size")),
        patch_size=number(vision, "patch_size", where) or 16,
        num_layers=number(vision, "layers", where) or 12,
        num_heads=width // head_width,
        norm_eps=number(_dict(vision, "norm_kwargs", where), "eps", where, float) or 1e-5,
        act=act,
        pooling={"tok": "cls", "avg": "mean"}.get(str(vision.get("pool_type", "tok"))),
        **known,
    )


def _is_number(config: dict, name: str) -> bool:
    return isinstance(config.get(name), int)


def _dict(config: dict, name: str, where: str) -> dict:
    value = config.get(name) or {}
    if not isinstance(value, dict):
        raise UserError(f"{where} is damaged: {name}={value!r}")
    return value
