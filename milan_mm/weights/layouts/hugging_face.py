"""Hugging Face's names: ViT, DeiT and MAE, BEiT and data2vec, DINOv2, DINOv3."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import BIAS_TABLE, Layout, Names, derive

_VIT_NAMES: Names = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.projection": "embeddings.patch_embeddings.projection",
    "layers.#.ln1": "encoder.layer.#.layernorm_before",
    "layers.#.attn.proj": "encoder.layer.#.attention.output.dense",
    "layers.#.ln2": "encoder.layer.#.layernorm_after",
    "layers.#.ffn.layers.0.0": "encoder.layer.#.intermediate.dense",
    "layers.#.ffn.layers.1": "encoder.layer.#.output.dense",
    "ln1": "layernorm",
}
_SPLITS = {
    "layers.#.attn.qkv": (
        "encoder.layer.#.attention.attention.query",
        "encoder.layer.#.attention.attention.key",
        "encoder.layer.#.attention.attention.value",
    )
}
_EXTRAS = {"embeddings.mask_token": reasons.MASK_TOKEN, "pooler.dense.*": reasons.CLASSIFIER}
_OUTSIDE = {
    "classifier.*": reasons.CLASSIFIER,
    "cls_classifier.*": reasons.CLASSIFIER,
    "distillation_classifier.*": reasons.CLASSIFIER,
    "decoder.*": reasons.DECODER,
    "lm_head.*": reasons.PRETRAINING_HEAD,
    "decode_head.*": reasons.SEGMENTOR,
    "auxiliary_head.*": reasons.SEGMENTOR,
    "fpn#.*": reasons.SEGMENTOR,
}
_PATCHES = "embeddings.patch_embeddings.projection.weight"

HF_VIT = Layout(
    names=derive(_VIT_NAMES, add={"register_tokens": "embeddings.distillation_token"}),
    markers=(
        _PATCHES,
        ("encoder.layer.0.layernorm_before.weight", "encoder.layer.0.layernorm_after.weight"),
    ),
    absent=("encoder.layer.0.lambda_1", "encoder.layer.0.lambda_2"),
    prefixes={"": {}, "vit.": _OUTSIDE, "deit.": _OUTSIDE},
    splits=_SPLITS,
    optional_bias=("layers.#.attn.qkv.bias",),  # qkv_bias=False
    optional={"cls_token": ()},  # I-JEPA has none
    extras=_EXTRAS,
    norm_eps=1e-12,
    settled=False,
)

_SHARED_TABLE = "encoder.relative_position_bias.relative_position_bias_table"
_OWN_TABLE = (
    "encoder.layer.#.attention.attention.relative_position_bias.relative_position_bias_table"
)
HF_BEIT = Layout(
    names=derive(
        _VIT_NAMES,
        add={
            "layers.#.gamma_1": "encoder.layer.#.lambda_1",
            "layers.#.gamma_2": "encoder.layer.#.lambda_2",
            # BeitForMaskedImageModeling keeps the final norm outside of the encoder
            "ln1": ("layernorm", "^layernorm"),
            "ln2": "pooler.layernorm",
            BIAS_TABLE: _OWN_TABLE,
        },
    ),
    markers=(_PATCHES, ("encoder.layer.0.lambda_1", "encoder.layer.0.lambda_2")),
    prefixes={"": {}, "beit.": _OUTSIDE, "data2vec_vision.": _OUTSIDE},
    splits=_SPLITS,
    key_bias=False,
    shared_table=_SHARED_TABLE,
    extras=_EXTRAS
    | {
        "encoder.relative_position_bias.relative_position_index": reasons.COUNTER,
        "encoder.layer.#.attention.attention.relative_position_bias.relative_position_index": (
            reasons.COUNTER
        ),
    },
    optional={"ln1": ("pooler.layernorm.weight",)},
    heads=((_SHARED_TABLE, 1), (_OWN_TABLE, 1)),
    norm_eps=1e-12,
    layer_scale=0.1,
    settled=False,
)

HF_DINOV2 = Layout(
    names=derive(
        _VIT_NAMES,
        add={
            "register_tokens": "embeddings.register_tokens",
            "layers.#.ln1": "encoder.layer.#.norm1",
            "layers.#.ln2": "encoder.layer.#.norm2",
            # DINOv2-g has a SwiGLU
            "layers.#.ffn.layers.0.0": (
                "encoder.layer.#.mlp.fc1",
                "encoder.layer.#.mlp.weights_in",
            ),
            "layers.#.ffn.layers.1": ("encoder.layer.#.mlp.fc2", "encoder.layer.#.mlp.weights_out"),
            "layers.#.gamma_1": "encoder.layer.#.layer_scale1.lambda1",
            "layers.#.gamma_2": "encoder.layer.#.layer_scale2.lambda1",
        },
    ),
    markers=(_PATCHES, ("encoder.layer.0.norm1.weight", "encoder.layer.0.norm2.weight")),
    prefixes={"": {}, "dinov2.": _OUTSIDE, "dinov2_with_registers.": _OUTSIDE},
    splits=_SPLITS,
    extras=_EXTRAS,
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
    gates=("layer.#.mlp.gate_proj", "layer.#.mlp.up_proj"),  # of S+, H+ and 7B
    key_bias=False,
    extras={"embeddings.mask_token": reasons.MASK_TOKEN},
    num_registers=4,
    norm_eps=1e-5,
)
