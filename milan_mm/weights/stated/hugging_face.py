"""Facts from the config.json and preprocessor_config.json of Hugging Face."""

import math
from pathlib import Path
from typing import Any

from milan_mm.errors import UserError
from milan_mm.weights.folders import CONFIG, PREPROCESSOR_CONFIG
from milan_mm.weights.stated.facts import HubFacts, oblong
from milan_mm.weights.statistics import stats_text
from milan_mm.weights.systems import HF_TYPES, WEB_DINO_WIDTHS

# hidden_act -> activation here. `gelu_fast` and `gelu_new` are written differently and equal.
ACTS = {
    "gelu": "GELU",
    "silu": "SiLU",
    "quick_gelu": "QuickGELU",
    "gelu_pytorch_tanh": "GELUTanh",
    "gelu_new": "GELUTanh",
    "gelu_fast": "GELUTanh",
}
# Image towers of CLIP, and what their classes take where a config says nothing.
_CLIP = ("clip", "clip_vision_model", "metaclip_2", "metaclip_2_vision_model")
_CLIP_DEFAULTS = dict(
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    image_size=224,
    patch_size=32,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
_SIGLIP = ("siglip", "siglip_vision_model")
_AIMV2 = ("aimv2", "aimv2_vision_model")
# Here, since timm's form of the same encoders is one of a fixed grid, and is read.
RADIO = (
    "C-RADIO cuts its positions out of one table for 128x128 patches, by a rule of its own: take "
    "timm's form of it, e.g. timm:vit_base_patch16_radio_v3"
)
# Classes that are never plain ViTs here -> why.
_REFUSED = {"radio": RADIO} | dict.fromkeys(
    ("siglip2", "siglip2_vision_model"),
    "SigLIP 2 of NaFlex keeps the shape of every image, and pads the patches of a batch: take one "
    "of SigLIP 2's encoders for square images, which are of model_type 'siglip'",
)
# Classes whose final norm is that after the pooling, unless they take the class token.
_BEIT = ("beit", "data2vec-vision")


def hugging_face_facts(config: dict, preprocessor: dict, folder: Path) -> HubFacts:
    """What the two files state.

    Raises:
        UserError: For an activation that `PlainViT` does not have, and numbers that cannot be
            meant.
    """
    where = f"'{folder / CONFIG}'"
    kind = str(config["model_type"])
    if kind in _REFUSED:
        raise UserError(f"{where} says model_type='{kind}': {_REFUSED[kind]}")
    if kind not in HF_TYPES:
        return HubFacts(foreign=f"{CONFIG} says model_type='{kind}' (known: {', '.join(HF_TYPES)})")
    if kind in _CLIP:
        config = _CLIP_DEFAULTS | _image_tower(config, where)
    if kind in _SIGLIP + _AIMV2:
        config = _image_tower(config, where)
    if config.get("is_native"):
        raise UserError(
            f"{where} says is_native=true: AIMv2's encoder for any shape computes its positions "
            "from each image and stores none, which is not done here; take one for square images"
        )
    usual = "gelu_pytorch_tanh" if kind in _SIGLIP else "silu" if kind in _AIMV2 else "gelu"
    act = str(config.get("hidden_act", usual))
    if act not in ACTS:
        raise UserError(f"{where} says hidden_act='{act}', supported are {', '.join(ACTS)}")
    system = HF_TYPES[kind]
    if kind in _CLIP and system is None:  # OpenAI's, MetaCLIP's and DFN's, or LAION's and others'
        system = "CLIP" if ACTS[act] == "QuickGELU" else "open_clip"
    if config.get("use_swiglu_ffn") and config.get("hidden_size") in WEB_DINO_WIDTHS:
        system = "Web-DINO"  # all of whose ViTs have a SwiGLU; of DINOv2's only ViT-g does
    pooling = None
    if "use_mean_pooling" in config:
        pooling = "mean" if config["use_mean_pooling"] else "cls"
    eps = "rms_norm_eps" if kind in _AIMV2 else "layer_norm_eps"
    is_pair = isinstance(config.get("image_size"), list)  # height and width: not a square grid
    return HubFacts(
        system=system,
        embed_dims=number(config, "hidden_size", where),
        img_size=None if is_pair else number(config, "image_size", where),
        oblong=oblong(config.get("image_size")),
        patch_size=number(config, "patch_size", where),
        num_layers=number(config, "num_hidden_layers", where),
        num_heads=number(config, "num_attention_heads", where),
        norm_eps=number(config, eps, where, float),
        act="SwiGLU" if kind in _AIMV2 else _act(config, act, where),
        num_registers=number(config, "num_register_tokens", where),
        rope_base=_rope_base(config, where),
        final_norm=False if kind in _BEIT and config.get("use_mean_pooling", True) else None,
        stats=_stats(preprocessor, f"'{folder / PREPROCESSOR_CONFIG}'"),
        pooling=pooling,
    )


def _act(config: dict, act: str, where: str) -> str:
    """Activation here; that of a SwiGLU where the model is said to have one."""
    if config.get("use_swiglu_ffn"):  # DINOv2's, whatever its `hidden_act`
        return "SwiGLU"
    if not config.get("use_gated_mlp"):  # DINOv3's
        return ACTS[act]
    if act != "silu":
        raise UserError(
            f"{where} says use_gated_mlp with hidden_act='{act}', supported is 'silu' (SwiGLU)"
        )
    return "SwiGLU"


def number(config: dict, name: str, where: str, kind: type = int) -> Any:
    """A number, 0 or more, or None; a whole number unless `kind` is float."""
    value: Any = config.get(name)
    if value is None:
        return None
    if type(value) not in (int, kind) or not 0 <= value < math.inf:
        wanted = "a number" if kind is float else "a whole number"
        raise UserError(f"{where} says {name}={value!r}, which is not {wanted}")
    return kind(value)


def _image_tower(config: dict, where: str) -> dict:
    """The part of a config that describes the images' encoder; all of it where it has no parts."""
    part = config.get("vision_config", config)
    if not isinstance(part, dict):
        raise UserError(f"{where} is damaged: vision_config={part!r}")
    # written twice by old versions, which read the second one
    twice = config.get("vision_config_dict")
    return part | twice if isinstance(twice, dict) else part


def _rope_base(config: dict, where: str) -> float | None:
    """Versions of transformers spell it in three ways."""
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        if rope.get("rope_type", "default") != "default":
            raise UserError(f"{where} says rope_type='{rope['rope_type']}', supported is 'default'")
        return number(rope, "rope_theta", where, float)
    name = "rope_theta" if "rope_theta" in config else "pos_embed_rope_base"
    return number(config, name, where, float)


def _stats(preprocessor: dict, where: str) -> str | None:
    """Images of 0-255 are multiplied by a factor, then normalised; either may be left out.

    (p * factor - mean) / std = (p / 255 - mean / (255 * factor)) / (std / (255 * factor))
    """
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    if preprocessor.get("do_normalize") is False:
        mean, std = 0.0, 1.0
    if mean is None or std is None:
        return None
    factor: float = 1.0
    if preprocessor.get("do_rescale") is not False:
        factor = number(preprocessor, "rescale_factor", where, float) or 1 / 255
        if preprocessor.get("rescale_offset") or preprocessor.get("offset"):
            raise UserError(
                f"{where} shifts images after rescaling (offset), which is not done here"
            )
    scale = 255 * factor
    return stats_text(_divided(mean, scale), _divided(std, scale), where)


def _divided(value: Any, scale: float) -> Any:
    """One number or several; what is not a number stays as it is, for `stats_text` to refuse."""
    if isinstance(value, list):
        return [_divided(part, scale) for part in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value / scale if is_number else value
