"""How pretrained plain ViTs are stored: one written table per layout, and nothing guessed.

A layout is a spelling of the same encoder. Its table says which name there is which parameter of
`PlainViT`, which whole keys tell it from the others, and what a file may hold besides the encoder
or lack, each with the reason. Which system wrote a file is another question: see `systems.py`.

In all tables '#' stands for the number of a block, '*' at the end for any rest of a name, and '^'
at the start for a name that no prefix precedes.
Sources: the code that writes the files, as cited per system in docs/weights.md.
"""

from milan_mm.weights.layout import BIAS_TABLE, MODULES, Layout, Names

CLASSIFIER = "a classifier; every task trains its own"
PRETRAINING_HEAD = "head of the pretraining"
DECODER = "decoder of the pretraining"
MASK_TOKEN = "mask token of the pretraining"
TEXT_TOWER = "text tower"
TEXT_SPACE = "projection between image and text space"
OTHER_MODEL = "another model of the pretraining"
COUNTER = "index or setting that this package computes itself"


def _text(prefix: str) -> dict[str, str]:
    """What an image-text model holds beside its image tower."""
    text = ("transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text.*")
    space = ("text_projection", "image_projection", "image_mlp.*", "logit_scale", "logit_bias")
    counts = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    return {
        **{prefix + name: TEXT_TOWER for name in text},
        **{prefix + name: TEXT_SPACE for name in space},
        **{prefix + name: COUNTER for name in counts},
    }


# ------------------------------------------------------------------------------------ timm's names
_TIMM_NAMES: dict[str, Names] = {
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
    "register_tokens": ("reg_token", "register_tokens"),
    "patch_embed.projection": "patch_embed.proj",
    "pre_norm": "norm_pre",
    "layers.#.ln1": "blocks.#.norm1",
    "layers.#.attn.qkv": "blocks.#.attn.qkv",
    "layers.#.attn.proj": "blocks.#.attn.proj",
    "layers.#.gamma_1": ("blocks.#.ls1.gamma", "blocks.#.gamma_1"),
    "layers.#.ln2": "blocks.#.norm2",
    "layers.#.ffn.layers.0.0": "blocks.#.mlp.fc1",
    "layers.#.ffn.layers.1": "blocks.#.mlp.fc2",
    "layers.#.gamma_2": ("blocks.#.ls2.gamma", "blocks.#.gamma_2"),
    "ln1": "norm",
    "ln2": "fc_norm",
}
_TIMM_EXTRAS = {
    "head.*": CLASSIFIER,
    "head_dist.*": CLASSIFIER,
    "pre_logits.*": CLASSIFIER,
    "dist_token": "distillation token; its row of the position table goes with it",
    "mask_token": MASK_TOKEN,
    "masked_embed": MASK_TOKEN,
    "decoder_*": DECODER,
    "lm_head.*": PRETRAINING_HEAD,
    "pred_head.*": PRETRAINING_HEAD,
    "hogs.*": PRETRAINING_HEAD,
    "pretext_neck.*": PRETRAINING_HEAD,
}
_DINO_HEADS = {
    f"{module}{name}": PRETRAINING_HEAD
    for module in ("", "module.")
    for name in ("head.*", "dino_head.*", "ibot_head.*")
}
_MOCO_REST = {"module.momentum_encoder.*": OTHER_MODEL, "module.predictor.*": PRETRAINING_HEAD}
_TRUNK_REST = {"visual.head.*": TEXT_SPACE, "module.visual.head.*": TEXT_SPACE}
TIMM = Layout(
    names=_TIMM_NAMES,
    markers=("patch_embed.proj.weight", "pos_embed"),
    absent=(
        "blocks.0.attn.q_bias",
        "blocks.0.attn.v_bias",
        "storage_tokens",
        "rope_embed.periods",
        "rel_pos_bias.relative_position_bias_table",
        "blocks.0.attn.relative_position_bias_table",
    ),
    prefixes={
        "": {},
        "module.": {},
        "backbone.": _DINO_HEADS,
        "module.backbone.": _DINO_HEADS,
        "module.base_encoder.": _MOCO_REST,
        "visual.": _text(""),
        "module.visual.": _text("module."),
        "visual.trunk.": _text("") | _TRUNK_REST,
        "module.visual.trunk.": _text("module.") | _TRUNK_REST,
    },
    extras=_TIMM_EXTRAS,
    # finetuned with average pooling: a norm after it replaces the final one; MaskFeat deletes it
    may_lack={"ln1": ("fc_norm.weight", "pred_head.*"), "cls_token": ()},
)

# ------------------------------------------------------------------------------------ BEiT's names
_BEIT_NAMES = {
    **{ours: theirs for ours, theirs in _TIMM_NAMES.items() if "qkv" not in ours},
    "layers.#.gamma_1": "blocks.#.gamma_1",
    "layers.#.gamma_2": "blocks.#.gamma_2",
    "layers.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
    BIAS_TABLE: "blocks.#.attn.relative_position_bias_table",
}
del _BEIT_NAMES["register_tokens"], _BEIT_NAMES["pre_norm"]
_QV_BIAS = {"layers.#.attn.qkv.bias": tuple(f"blocks.#.attn.{n}_bias" for n in "qkv")}
_BEIT_EXTRAS = _TIMM_EXTRAS | {
    "rel_pos_bias.relative_position_index": COUNTER,
    "blocks.#.attn.relative_position_index": COUNTER,
}
BEIT = Layout(
    names=_BEIT_NAMES,
    markers=("patch_embed.proj.weight", ("blocks.0.attn.q_bias", "blocks.0.attn.v_bias")),
    absent=("reg_token", "storage_tokens"),
    prefixes={
        "": {},
        "module.": {},
        # SimMIM and CAE keep the encoder beside their other networks
        "encoder.": {
            "decoder.*": DECODER,
            "teacher.*": OTHER_MODEL,
            "encoder_to_decoder.*": DECODER,
            "encoder_to_decoder_norm.*": DECODER,
            "regressor_and_decoder.*": DECODER,
            "mask_token": MASK_TOKEN,
        },
        "backbone.": {"head.*": CLASSIFIER, "neck.*": DECODER, "target_generator.*": OTHER_MODEL},
    },
    splits=_QV_BIAS,  # type: ignore[arg-type]
    key_bias=False,
    shared_table="rel_pos_bias.relative_position_bias_table",
    extras=_BEIT_EXTRAS,
    may_lack={"ln1": ("fc_norm.weight",)},
    heads=(
        ("rel_pos_bias.relative_position_bias_table", 1),
        ("blocks.#.attn.relative_position_bias_table", 1),
    ),
    layer_scale=0.1,
)

# ------------------------------------------------------------------------------------ CLIP's names
CLIP = Layout(
    names={
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.projection.weight": "conv1.weight",
        "pre_norm": "ln_pre",
        "layers.#.ln1": "transformer.resblocks.#.ln_1",
        "layers.#.attn.qkv.weight": "transformer.resblocks.#.attn.in_proj_weight",
        "layers.#.attn.qkv.bias": "transformer.resblocks.#.attn.in_proj_bias",
        "layers.#.attn.proj": "transformer.resblocks.#.attn.out_proj",
        "layers.#.gamma_1": "transformer.resblocks.#.ls_1.gamma",
        "layers.#.ln2": "transformer.resblocks.#.ln_2",
        "layers.#.ffn.layers.0.0": "transformer.resblocks.#.mlp.c_fc",
        "layers.#.ffn.layers.1": "transformer.resblocks.#.mlp.c_proj",
        "layers.#.gamma_2": "transformer.resblocks.#.ls_2.gamma",
        "ln1": "ln_post",
    },
    markers=("conv1.weight", "class_embedding"),
    prefixes={"": {}, "visual.": _text(""), "module.visual.": _text("module.")},
    changes={
        "cls_token": (1, lambda t: t[None, None]),  # (D,) to (1, 1, D)
        "pos_embed": (2, lambda t: t[None]),  # (1+L, D) to (1, 1+L, D)
    },
    extras={"proj": TEXT_SPACE},
    needs=("pre_norm.weight", "pre_norm.bias"),
    norm_eps=1e-5,
)

# ------------------------------------------------------------------- SWAG's and torchvision's names
_SWAG_NAMES: dict[str, Names] = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.projection": "conv_proj",
    "layers.#.ln1": "encoder.layers.layer_#.ln_1",
    "layers.#.attn.qkv.weight": "encoder.layers.layer_#.self_attention.in_proj_weight",
    "layers.#.attn.qkv.bias": "encoder.layers.layer_#.self_attention.in_proj_bias",
    "layers.#.attn.proj": "encoder.layers.layer_#.self_attention.out_proj",
    "layers.#.ln2": "encoder.layers.layer_#.ln_2",
    "layers.#.ffn.layers.0.0": "encoder.layers.layer_#.mlp.linear_1",
    "layers.#.ffn.layers.1": "encoder.layers.layer_#.mlp.linear_2",
    "ln1": "encoder.ln",
}
_SWAG_HEADS = {"head.*": CLASSIFIER, "heads.*": CLASSIFIER}
SWAG = Layout(
    names=_SWAG_NAMES,
    markers=(
        "conv_proj.weight",
        ("encoder.layers.layer_0.ln_1.weight", "encoder.layers.layer_0.ln_2.weight"),
    ),
    prefixes={"": {}, "module.": {}},
    changes={"pos_embed": (3, lambda t: t.transpose(0, 1))},  # sequence first there
    extras=_SWAG_HEADS,
)
_TORCHVISION_NAMES: dict[str, Names] = {
    ours: str(theirs).replace("layers.layer_#", "layers.encoder_layer_#")
    for ours, theirs in _SWAG_NAMES.items()
}
for _ours, _new in (("layers.#.ffn.layers.0.0", "mlp.0"), ("layers.#.ffn.layers.1", "mlp.3")):
    _old = str(_TORCHVISION_NAMES[_ours])
    _TORCHVISION_NAMES[_ours] = (_old.partition("mlp.")[0] + _new, _old)
TORCHVISION = Layout(
    names=_TORCHVISION_NAMES,
    markers=(
        "conv_proj.weight",
        (
            "encoder.layers.encoder_layer_0.ln_1.weight",
            "encoder.layers.encoder_layer_0.ln_2.weight",
        ),
    ),
    prefixes={"": {}, "module.": {}},
    extras=_SWAG_HEADS,
)

# ------------------------------------------------------- mmpretrain's names, which are also our own
_OWN_NAMES: dict[str, Names] = {
    **{name: name for name in ("cls_token", "pos_embed", "register_tokens", *MODULES, BIAS_TABLE)},
    "layers.#.attn.rel_pos_h": "layers.#.attn.rel_pos_h",
    "layers.#.attn.rel_pos_w": "layers.#.attn.rel_pos_w",
    "layers.#.gamma_1": ("layers.#.gamma_1", "layers.#.attn.gamma1.weight"),
    "layers.#.gamma_2": ("layers.#.gamma_2", "layers.#.ffn.gamma2.weight"),
}
# Parts of a checkpoint that belong to the pretraining or to a task, not to the encoder.
_AROUND = {
    "rpn_head.*": "detection head",
    "roi_head.*": "detection head",
    "decode_head.*": "segmentation head",
    "auxiliary_head.*": "segmentation head",
    "decoder.*": DECODER,
    "neck.*": "neck of the pretraining or of a task",
    "head.*": "head of the pretraining or of a task",
    "target_generator.*": OTHER_MODEL,
    "data_preprocessor.*": "statistics of a data preprocessor",
}
_MM_EXTRAS = {
    "rel_pos_bias.relative_position_index": COUNTER,
    "layers.#.attn.relative_position_index": COUNTER,
    "mask_token": MASK_TOKEN,
}
MMPRETRAIN = Layout(
    names=_OWN_NAMES,
    markers=("patch_embed.projection.weight",),
    absent=("layers.0.attn.q_bias", "layers.0.attn.v_bias"),
    prefixes={"": {}, "backbone.": _AROUND},
    shared_table="rel_pos_bias.relative_position_bias_table",
    extras=_MM_EXTRAS,
    may_lack={"ln1": (), "cls_token": ()},  # dense and finetuned models have none
    heads=((BIAS_TABLE, 1), ("rel_pos_bias.relative_position_bias_table", 1)),
    told=False,
)
_MM_BEIT_NAMES = {
    **{n: v for n, v in _OWN_NAMES.items() if "rel_pos_" not in n and "qkv" not in n},
    "layers.#.gamma_1": "layers.#.gamma_1",
    "layers.#.gamma_2": "layers.#.gamma_2",
    "layers.#.attn.qkv.weight": "layers.#.attn.qkv.weight",
}
del _MM_BEIT_NAMES["register_tokens"], _MM_BEIT_NAMES["pre_norm"]
MMPRETRAIN_BEIT = Layout(
    names=_MM_BEIT_NAMES,
    markers=(
        "patch_embed.projection.weight",
        ("layers.0.attn.q_bias", "layers.0.attn.v_bias"),
    ),
    prefixes={"": {}, "backbone.": _AROUND},
    splits={
        "layers.#.attn.qkv.bias": (
            "layers.#.attn.q_bias",
            "layers.#.attn.k_bias",
            "layers.#.attn.v_bias",
        )
    },
    key_bias=False,
    shared_table="rel_pos_bias.relative_position_bias_table",
    extras=_MM_EXTRAS,
    may_lack={"ln1": ()},
    heads=((BIAS_TABLE, 1), ("rel_pos_bias.relative_position_bias_table", 1)),
    layer_scale=0.1,
)


# ------------------------------------------------------------------- Flax arrays of AugReg (`.npz`)
def _flax(
    block: str, second_norm: str, attention: str, mlp: str, positions: str, prefixes: tuple
) -> Layout:
    """Kernels are (in, out), convolutions HWIO, and attention keeps its heads apart."""
    root = f"Transformer/{block}"
    names: dict[str, Names] = {
        "cls_token": "cls",
        "pos_embed": positions,
        "patch_embed.projection.weight": "embedding/kernel",
        "patch_embed.projection.bias": "embedding/bias",
        "layers.#.ln1.weight": f"{root}/LayerNorm_0/scale",
        "layers.#.ln1.bias": f"{root}/LayerNorm_0/bias",
        "layers.#.attn.proj.weight": f"{root}/{attention}/out/kernel",
        "layers.#.attn.proj.bias": f"{root}/{attention}/out/bias",
        "layers.#.ln2.weight": f"{root}/{second_norm}/scale",
        "layers.#.ln2.bias": f"{root}/{second_norm}/bias",
        "layers.#.ffn.layers.0.0.weight": f"{root}/{mlp}/Dense_0/kernel",
        "layers.#.ffn.layers.0.0.bias": f"{root}/{mlp}/Dense_0/bias",
        "layers.#.ffn.layers.1.weight": f"{root}/{mlp}/Dense_1/kernel",
        "layers.#.ffn.layers.1.bias": f"{root}/{mlp}/Dense_1/bias",
        "ln1.weight": "Transformer/encoder_norm/scale",
        "ln1.bias": "Transformer/encoder_norm/bias",
    }
    query, key, value = (f"{root}/{attention}/{part}" for part in ("query", "key", "value"))
    return Layout(
        names=names,
        markers=("embedding/kernel", positions),
        prefixes={prefix: {} for prefix in prefixes},
        splits={
            "layers.#.attn.qkv.weight": (f"{query}/kernel", f"{key}/kernel", f"{value}/kernel"),
            "layers.#.attn.qkv.bias": (f"{query}/bias", f"{key}/bias", f"{value}/bias"),
        },
        changes={
            "patch_embed.projection.weight": (4, lambda t: t.permute(3, 2, 0, 1)),  # HWIO to OIHW
            "layers.#.attn.qkv.weight": (3, lambda t: t.flatten(1).T),  # (D, A, d) to (A*d, D)
            "layers.#.attn.qkv.bias": (2, lambda t: t.flatten()),  # (A, d) to (A*d,)
            "layers.#.attn.proj.weight": (3, lambda t: t.flatten(0, 1).T),  # (A, d, D) to (D, A*d)
            "layers.#.ffn.layers.0.0.weight": (2, lambda t: t.T),
            "layers.#.ffn.layers.1.weight": (2, lambda t: t.T),
        },
        extras={"head/*": CLASSIFIER, "pre_logits/*": CLASSIFIER},
        heads=(
            *((f"{part}/kernel", 1) for part in (query, key, value)),
            *((f"{part}/bias", 0) for part in (query, key, value)),
            (f"{root}/{attention}/out/kernel", 0),
        ),
    )


AUGREG = _flax(
    "encoderblock_#",
    "LayerNorm_2",
    "MultiHeadDotProductAttention_1",
    "MlpBlock_3",
    "Transformer/posembed_input/pos_embedding",
    ("", "opt/target/", "params/"),
)
BIG_VISION = _flax(
    "encoderblock_#",
    "LayerNorm_1",
    "MultiHeadDotProductAttention_0",
    "MlpBlock_0",
    "pos_embedding",
    ("", "params/", "opt/target/"),
)

# ---------------------------------------------------------------------------------- DINOv3's names
_DINOV3_NAMES = {
    **{n: v for n, v in _TIMM_NAMES.items() if n not in ("pos_embed", "pre_norm", "ln2")},
    "register_tokens": "storage_tokens",
}
DINOV3 = Layout(
    names=_DINOV3_NAMES,
    markers=("patch_embed.proj.weight", ("storage_tokens", "rope_embed.periods")),
    prefixes={"": {}, "module.": {}, "backbone.": _DINO_HEADS},
    extras={
        "rope_embed.periods": COUNTER,
        "blocks.#.attn.qkv.bias_mask": "says that the key bias is zero, and it is zeroed here",
        "local_cls_norm.*": PRETRAINING_HEAD,
        "mask_token": MASK_TOKEN,
        "head.*": CLASSIFIER,
    },
    needs=("register_tokens",),
    num_registers=4,
    norm_eps=1e-5,
)
DINOV3_TIMM = Layout(
    names={
        **{n: v for n, v in _DINOV3_NAMES.items() if "qkv" not in n},
        "register_tokens": "reg_token",
        "layers.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
        "layers.#.gamma_1": "blocks.#.gamma_1",
        "layers.#.gamma_2": "blocks.#.gamma_2",
    },
    markers=("patch_embed.proj.weight", "reg_token"),
    absent=("pos_embed", "storage_tokens"),
    splits=_QV_BIAS,  # type: ignore[arg-type]
    key_bias=False,
    may_lack_bias=True,
    extras={"head.*": CLASSIFIER},
    num_registers=4,
    norm_eps=1e-5,
)


# ---------------------------------------------------------------------------- Hugging Face's names
def _hugging_face(
    first_norm: str, second_norm: str, mlp: tuple[str, str], scales: tuple[str, str] | None
) -> dict[str, Names]:
    root = "encoder.layer.#"
    names: dict[str, Names] = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.projection": "embeddings.patch_embeddings.projection",
        "layers.#.ln1": f"{root}.{first_norm}",
        "layers.#.attn.proj": f"{root}.attention.output.dense",
        "layers.#.ln2": f"{root}.{second_norm}",
        "layers.#.ffn.layers.0.0": f"{root}.{mlp[0]}",
        "layers.#.ffn.layers.1": f"{root}.{mlp[1]}",
        "ln1": "layernorm",
    }
    if scales:
        names |= {f"layers.#.gamma_{i}": f"{root}.{scale}" for i, scale in enumerate(scales, 1)}
    return names


_HF_ATTENTION = tuple(f"encoder.layer.#.attention.attention.{n}" for n in ("query", "key", "value"))
_HF_SPLIT = {"layers.#.attn.qkv": _HF_ATTENTION}
_HF_EXTRAS = {"embeddings.mask_token": MASK_TOKEN, "pooler.dense.*": CLASSIFIER}
_HF_OUTSIDE = {
    "classifier.*": CLASSIFIER,
    "cls_classifier.*": CLASSIFIER,
    "distillation_classifier.*": CLASSIFIER,
    "decoder.*": DECODER,
    "lm_head.*": PRETRAINING_HEAD,
}
HF_VIT = Layout(
    names=_hugging_face(
        "layernorm_before", "layernorm_after", ("intermediate.dense", "output.dense"), None
    ),
    markers=(
        "embeddings.patch_embeddings.projection.weight",
        ("encoder.layer.0.layernorm_before.weight", "encoder.layer.0.layernorm_after.weight"),
    ),
    absent=("encoder.layer.0.lambda_1", "encoder.layer.0.lambda_2"),
    prefixes={"": {}, "vit.": _HF_OUTSIDE, "deit.": _HF_OUTSIDE},
    splits=_HF_SPLIT,  # type: ignore[arg-type]
    may_lack_bias=True,  # qkv_bias=False
    extras=_HF_EXTRAS
    | {"embeddings.distillation_token": "distillation token; its position row goes with it"},
    norm_eps=1e-12,
    told=False,
)
_HF_BEIT_NAMES = _hugging_face(
    "layernorm_before",
    "layernorm_after",
    ("intermediate.dense", "output.dense"),
    ("lambda_1", "lambda_2"),
)
_HF_TABLE = "attention.attention.relative_position_bias.relative_position_bias_table"
HF_BEIT = Layout(
    names={
        **_HF_BEIT_NAMES,
        # BeitForMaskedImageModeling keeps the final norm outside of the encoder
        "ln1": ("layernorm", "^layernorm"),
        "ln2": "pooler.layernorm",
        BIAS_TABLE: f"encoder.layer.#.{_HF_TABLE}",
    },
    markers=(
        "embeddings.patch_embeddings.projection.weight",
        ("encoder.layer.0.lambda_1", "encoder.layer.0.lambda_2"),
    ),
    prefixes={
        "": {},
        "beit.": _HF_OUTSIDE,
        "data2vec_vision.": _HF_OUTSIDE,
    },
    splits=_HF_SPLIT,  # type: ignore[arg-type]
    key_bias=False,
    shared_table="encoder.relative_position_bias.relative_position_bias_table",
    extras=_HF_EXTRAS
    | {
        "encoder.relative_position_bias.relative_position_index": COUNTER,
        f"encoder.layer.#.{_HF_TABLE}".replace("_bias_table", "_index"): COUNTER,
    },
    may_lack={"ln1": ("pooler.layernorm.weight",)},
    heads=(
        ("encoder.relative_position_bias.relative_position_bias_table", 1),
        (f"encoder.layer.#.{_HF_TABLE}", 1),
    ),
    norm_eps=1e-12,
    layer_scale=0.1,
    told=False,
)
HF_DINOV2 = Layout(
    names={
        **_hugging_face(
            "norm1",
            "norm2",
            ("mlp.fc1", "mlp.fc2"),
            ("layer_scale1.lambda1", "layer_scale2.lambda1"),
        ),
        "register_tokens": "embeddings.register_tokens",
    },
    markers=(
        "embeddings.patch_embeddings.projection.weight",
        ("encoder.layer.0.norm1.weight", "encoder.layer.0.norm2.weight"),
    ),
    prefixes={"": {}, "dinov2.": _HF_OUTSIDE, "dinov2_with_registers.": _HF_OUTSIDE},
    splits=_HF_SPLIT,  # type: ignore[arg-type]
    extras=_HF_EXTRAS,
)
HF_DINOV3 = Layout(
    names={
        "cls_token": "embeddings.cls_token",
        "register_tokens": "embeddings.register_tokens",
        "patch_embed.projection": "embeddings.patch_embeddings",
        "layers.#.ln1": "layer.#.norm1",
        "layers.#.attn.proj": "layer.#.attention.o_proj",
        "layers.#.gamma_1": "layer.#.layer_scale1.lambda1",
        "layers.#.ln2": "layer.#.norm2",
        "layers.#.ffn.layers.0.0": "layer.#.mlp.up_proj",
        "layers.#.ffn.layers.1": "layer.#.mlp.down_proj",
        "layers.#.gamma_2": "layer.#.layer_scale2.lambda1",
        "ln1": "norm",
    },
    markers=("embeddings.patch_embeddings.weight", "embeddings.register_tokens"),
    splits={
        "layers.#.attn.qkv": (
            "layer.#.attention.q_proj",
            "layer.#.attention.k_proj",
            "layer.#.attention.v_proj",
        )
    },
    key_bias=False,
    extras={"embeddings.mask_token": MASK_TOKEN},
    num_registers=4,
    norm_eps=1e-5,
)

LAYOUTS = {
    "timm": TIMM,
    "beit": BEIT,
    "clip": CLIP,
    "swag": SWAG,
    "torchvision": TORCHVISION,
    "mmpretrain": MMPRETRAIN,
    "mmpretrain-beit": MMPRETRAIN_BEIT,
    "augreg-npz": AUGREG,
    "big-vision-npz": BIG_VISION,
    "dinov3": DINOV3,
    "dinov3-timm": DINOV3_TIMM,
    "hf-vit": HF_VIT,
    "hf-beit": HF_BEIT,
    "hf-dinov2": HF_DINOV2,
    "hf-dinov3": HF_DINOV3,
}
