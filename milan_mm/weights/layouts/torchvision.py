"""The names of SWAG and of torchvision, which took them over."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Layout

_HEADS = {"head.*": reasons.CLASSIFIER, "heads.*": reasons.CLASSIFIER}

SWAG = Layout(
    names={
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
    },
    markers=(
        "conv_proj.weight",
        ("encoder.layers.layer_0.ln_1.weight", "encoder.layers.layer_0.ln_2.weight"),
    ),
    prefixes={"": {}, "module.": {}},
    changes={"pos_embed": (3, lambda t: t.transpose(0, 1))},  # sequence first there
    extras=_HEADS,
)

_BLOCK = "encoder.layers.encoder_layer_#"
TORCHVISION = Layout(
    names={
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.projection": "conv_proj",
        "layers.#.ln1": f"{_BLOCK}.ln_1",
        "layers.#.attn.qkv.weight": f"{_BLOCK}.self_attention.in_proj_weight",
        "layers.#.attn.qkv.bias": f"{_BLOCK}.self_attention.in_proj_bias",
        "layers.#.attn.proj": f"{_BLOCK}.self_attention.out_proj",
        "layers.#.ln2": f"{_BLOCK}.ln_2",
        # files of older versions have the second spelling
        "layers.#.ffn.layers.0.0": (f"{_BLOCK}.mlp.0", f"{_BLOCK}.mlp.linear_1"),
        "layers.#.ffn.layers.1": (f"{_BLOCK}.mlp.3", f"{_BLOCK}.mlp.linear_2"),
        "ln1": "encoder.ln",
    },
    markers=(
        "conv_proj.weight",
        (
            "encoder.layers.encoder_layer_0.ln_1.weight",
            "encoder.layers.encoder_layer_0.ln_2.weight",
        ),
    ),
    prefixes={
        "": {},
        "module.": {},
        "backbone.vit.": reasons.TRAINING_PARTS,  # lightly's
        "teacher_backbone.vit.": reasons.TRAINING_PARTS,
        "student_backbone.vit.": reasons.TRAINING_PARTS,
    },
    extras=_HEADS,
)
