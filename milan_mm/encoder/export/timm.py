"""A folder that `timm.create_model("local-dir:FOLDER")` loads."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from milan_mm.encoder.export.parts import TIMM_ACTS, Parts
from milan_mm.encoder.images import CROP
from milan_mm.weights.spelling import spell

# (epsilon, norm before the first block) -> an architecture of timm that has it; a config cannot say
# the epsilon itself, and all other arguments are given.
_VITS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
_BEIT, _DINOV3 = "beit_base_patch16_224", "vit_base_patch16_dinov3_qkvb"


def timm_files(parts: Parts) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config.json and the tensors of an encoder.

    Raises:
        UserError: When timm has no architecture for it.
    """
    parts.refuse("timm's config", parts.newer)
    if parts.settings["rel_pos_bias_grid"]:
        name, args, tensors = _beit(parts.without("attn_pool."))
    elif parts.settings["rope_base"]:
        name, args, tensors = _dinov3(parts.without("attn_pool."))
    else:
        name, args, tensors = _vit(parts)
    args |= dict(
        patch_size=parts.patch_size,
        embed_dim=parts.embed_dims,
        depth=parts.num_layers,
        num_heads=parts.num_heads,
        mlp_ratio=(parts.mlp_dims + 0.5) / parts.embed_dims,  # which timm rounds down
    )
    pooling = "token" if parts.pooling == "cls" and parts.has_cls_token else "avg"
    if any(name.startswith("attn_pool.") for name in tensors):
        pooling = "map"
    size = [3, parts.img_size, parts.img_size]
    pretrained = dict(
        input_size=size,
        mean=list(parts.mean),
        std=list(parts.std),
        interpolation="bicubic",
        crop_pct=CROP,
        num_classes=0,
        first_conv="patch_embed.proj",
        classifier="head",
    )
    if parts.timm_name:
        pretrained |= dict(tag=parts.timm_name)
    config = dict(
        architecture=name,
        num_classes=0,
        num_features=parts.embed_dims,
        global_pool=pooling,
        model_args=args | dict(global_pool=pooling),
        pretrained_cfg=pretrained,
    )
    return config, tensors


def _vit(parts: Parts) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    eps, act = parts.settings["norm_eps"], parts.settings["act"]
    epsilons = " or ".join(f"{value:g}" for value in _VITS)
    parts.refuse(
        "timm's VisionTransformer",
        {
            f"its norms have epsilon {eps:g}, and timm's config can say {epsilons}": eps
            not in _VITS,
            f"the activation {act}": act not in TIMM_ACTS,
            "a final norm and another one after pooling": parts.has_final_norm
            and parts.has_pooled_norm,
        },
    )
    # of which timm's table has rows too, unless the class token has none; the files that do so
    # have layer scale as well
    if parts.num_registers and parts.has_cls_token:
        parts = parts.with_layer_scale().with_class_position_in_token()
    args = dict(
        img_size=parts.img_size,
        class_token=parts.has_cls_token,
        reg_tokens=parts.num_registers,
        no_embed_class=bool(parts.num_registers),
        init_values=1e-5 if parts.has_layer_scale else None,
        pre_norm="pre_norm.weight" in parts.tensors,
        final_norm=parts.has_final_norm or parts.has_pooled_norm,
        fc_norm=parts.has_pooled_norm,
        act_layer=TIMM_ACTS[act],
        dynamic_img_size=True,
    )
    # timm leaves out the bias of the patches where a norm follows, and only there
    if not args["pre_norm"]:
        parts = parts.with_patch_bias()
    else:
        bias = parts.settings["patch_bias"]
        parts.refuse("timm's VisionTransformer", {"a patch bias with a norm before block 0": bias})
    if parts.settings["pool_heads"] != parts.num_heads or parts.pool_dims != parts.mlp_dims:
        parts = parts.without("attn_pool.")  # timm's is as wide as the blocks
    return _VITS[eps], args, spell(parts.tensors, "timm")


def _beit(parts: Parts) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    norms = [parts.has_final_norm, parts.has_pooled_norm]
    parts.refuse(
        "timm's Beit",
        parts.beside
        | {
            "it has no class token": not parts.has_cls_token,
            f"the activation {parts.settings['act']}": parts.settings["act"] != "GELU",
            "epsilon of its norms is not 1e-6": parts.settings["norm_eps"] != 1e-6,
            "it has a key bias": parts.has_key_bias,
            "it needs one norm, the final one or that after pooling": sum(norms) != 1,
            "a norm after pooling with the class token": norms[1] and parts.pooling == "cls",
        },
    )
    args = dict(
        img_size=parts.img_size,
        init_values=0.1 if parts.has_layer_scale else None,
        use_abs_pos_emb="pos_embed" in parts.tensors,
        use_rel_pos_bias=True,
        use_fc_norm=parts.has_pooled_norm,
    )
    return _BEIT, args, spell(parts.with_patch_bias().tensors, "beit")


def _dinov3(parts: Parts) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    parts.refuse(
        "timm's Eva",
        parts.beside
        | {
            "it has no class token": not parts.has_cls_token,
            f"the activation {parts.settings['act']}": parts.settings["act"] != "GELU",
            "epsilon of its norms is not 1e-5": parts.settings["norm_eps"] != 1e-5,
            "it has a key bias": parts.has_key_bias,
            "it has no final norm": not parts.has_final_norm,
            "it has a norm after pooling": parts.has_pooled_norm,
        },
    )
    args = dict(
        img_size=parts.img_size,
        init_values=1e-5 if parts.has_layer_scale else None,
        num_reg_tokens=parts.num_registers,
        rope_temperature=parts.settings["rope_base"],
        dynamic_img_size=True,
    )
    return _DINOV3, args, spell(parts.with_patch_bias().tensors, "dinov3-timm")


def load_timm(folder: str) -> Callable[[Tensor], Tensor]:
    """The model, as a user would load it: images to all tokens."""
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return lambda images: model.forward_features(images)  # type: ignore[operator]
