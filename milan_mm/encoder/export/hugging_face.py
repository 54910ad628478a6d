"""A folder that `transformers.AutoModel.from_pretrained(FOLDER)` loads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from milan_mm.encoder.export.parts import HF_ACTS, Parts
from milan_mm.encoder.images import CROP
from milan_mm.weights.spelling import spell

Files = tuple[dict[str, Any], dict[str, Tensor]]


def hugging_face_files(parts: Parts) -> Files:
    """The config.json and the tensors of an encoder, for the class that can hold it exactly.

    Raises:
        UserError: When no class can, naming the part.
    """
    parts = parts.without("attn_pool.")
    parts = parts.with_patch_bias() if not parts.settings["pre_norm"] else parts
    if parts.settings["rel_pos_bias_grid"]:
        return _beit(parts)
    if parts.settings["rope_base"]:
        return _dinov3(parts)
    if parts.settings["pre_norm"]:
        return _clip(parts)
    if parts.has_layer_scale or parts.num_registers:
        return _dinov2(parts)
    return _vit(parts)


def preprocessor(parts: Parts) -> dict[str, Any]:
    """The preprocessor_config.json: sizes, crop and statistics of the images."""
    return dict(
        image_processor_type="BitImageProcessor",
        do_convert_rgb=True,
        do_resize=True,
        size=dict(shortest_edge=round(parts.img_size / CROP)),
        resample=3,  # bicubic
        do_center_crop=True,
        crop_size=dict(height=parts.img_size, width=parts.img_size),
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=list(parts.mean),
        image_std=list(parts.std),
    )


def _common(parts: Parts, model_type: str, architecture: str) -> dict[str, Any]:
    return dict(
        model_type=model_type,
        architectures=[architecture],
        hidden_size=parts.embed_dims,
        num_hidden_layers=parts.num_layers,
        num_attention_heads=parts.num_heads,
        intermediate_size=parts.mlp_dims,
        hidden_act=HF_ACTS[parts.settings["act"]],
        layer_norm_eps=parts.settings["norm_eps"],
        image_size=parts.img_size,
        patch_size=parts.patch_size,
        num_channels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        dtype="float32",
        use_mean_pooling=parts.pooling == "mean",  # a word of BEiT's, which our own reader knows
    )


def _refuse(parts: Parts, target: str, **more: bool) -> None:
    """Refuse what no class of Hugging Face has, and what this one does not have."""
    parts.refuse(
        f"Hugging Face's {target}",
        parts.newer
        | {
            "an MLP that is not four times as wide": "Dinov2" in target
            and parts.mlp_dims != 4 * parts.embed_dims,
            "it has no class token": not parts.has_cls_token,
            f"the activation {parts.settings['act']}": parts.settings["act"] not in HF_ACTS,
            **{sentence.replace("_", " "): there for sentence, there in more.items()},
        },
    )


def _vit(parts: Parts) -> Files:
    _refuse(parts, "ViTModel", it_has_no_final_norm=not parts.has_final_norm)
    config = _common(parts, "vit", "ViTModel") | dict(qkv_bias=True)
    return config, spell(parts.without("ln2.").tensors, "hf-vit")


def _dinov2(parts: Parts) -> Files:
    kind = "Dinov2WithRegisters" if parts.num_registers else "Dinov2"
    _refuse(parts, f"{kind}Model", it_has_no_final_norm=not parts.has_final_norm)
    model_type = "dinov2_with_registers" if parts.num_registers else "dinov2"
    config = _common(parts, model_type, f"{kind}Model")
    config |= dict(qkv_bias=True, mlp_ratio=4, layerscale_value=1.0, use_swiglu_ffn=False)
    if parts.num_registers:
        config |= dict(num_register_tokens=parts.num_registers)
    tensors = spell(parts.with_layer_scale().without("ln2.").tensors, "hf-dinov2")
    return config, tensors | {"embeddings.mask_token": torch.zeros(1, parts.embed_dims)}


def _dinov3(parts: Parts) -> Files:
    parts.refuse("Hugging Face's DINOv3ViTModel", parts.beside)
    _refuse(
        parts,
        "DINOv3ViTModel",
        it_has_no_final_norm=not parts.has_final_norm,
        it_has_a_key_bias=parts.has_key_bias,
    )
    config = _common(parts, "dinov3_vit", "DINOv3ViTModel") | dict(
        num_register_tokens=parts.num_registers,
        rope_theta=parts.settings["rope_base"],
        query_bias=True,
        key_bias=False,
        value_bias=True,
        proj_bias=True,
        mlp_bias=True,
        layerscale_value=1.0,
        use_gated_mlp=False,
    )
    tensors = spell(parts.with_layer_scale().without("ln2.").tensors, "hf-dinov3")
    return config, tensors | {"embeddings.mask_token": torch.zeros(1, 1, parts.embed_dims)}


def _beit(parts: Parts) -> Files:
    pooled = parts.has_pooled_norm and not parts.has_final_norm
    parts.refuse("Hugging Face's BeitModel", parts.beside)
    _refuse(
        parts,
        "BeitModel",
        it_has_a_key_bias=parts.has_key_bias,
        it_has_no_norm_at_the_end=not (pooled or parts.has_final_norm),
    )
    config = _common(parts, "beit", "BeitModel") | dict(
        use_mask_token=False,
        use_absolute_position_embeddings="pos_embed" in parts.tensors,
        use_relative_position_bias=True,
        use_shared_relative_position_bias=False,
        layer_scale_init_value=0.1,
        use_mean_pooling=pooled,
    )
    kept = parts.with_layer_scale() if pooled else parts.with_layer_scale().without("ln2.")
    return config, spell(kept.tensors, "hf-beit")


_CLIP_FLAT = ("embeddings.class_embedding", "embeddings.position_embedding.weight")


def _clip(parts: Parts) -> Files:
    _refuse(
        parts,
        "CLIPVisionModel",
        it_has_registers=bool(parts.num_registers),
        it_has_layer_scale=parts.has_layer_scale,
        its_patch_embedding_has_a_bias=parts.settings["patch_bias"],
        it_has_no_final_norm=not parts.has_final_norm,
    )
    spelt = spell(parts.without("ln2.").tensors, "hf-clip")
    # the class token is (D,), the table (1+L, D) there
    tensors = {
        f"vision_model.{name}": t.squeeze() if name in _CLIP_FLAT else t
        for name, t in spelt.items()
    }
    return _common(parts, "clip_vision_model", "CLIPVisionModel"), tensors


def load_hugging_face(folder: str) -> Callable[[Tensor], Tensor]:
    """The model, as a user would load it: images to all tokens."""
    from transformers import AutoModel
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(folder).eval()
    finally:
        logging.set_verbosity(verbosity)
    # CLIP's class norms the class token only; transformers 4 has it one level deeper
    norms = [m for name, m in model.named_modules() if name.endswith("post_layernorm")]
    norm = norms[0] if norms else torch.nn.Identity()
    return lambda images: norm(model(images).last_hidden_state)
