"""AIMv2's names, as its authors, timm and Hugging Face store it: RMSNorms, and no biases inside."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import FIRST_LAYER, Layout, Names

_WITHOUT_BIAS = (
    "layers.#.attn.qkv.bias",
    "layers.#.attn.proj.bias",
    f"{FIRST_LAYER}.bias",
    "layers.#.ffn.layers.1.bias",
)


def _names(
    patches: str, norm: str, positions: str, block: str, norms: tuple[str, str], last: str
) -> Names:
    return {
        "pos_embed": positions,
        "patch_embed.projection": patches,
        "patch_embed.norm": norm,
        "layers.#.ln1": f"{block}.{norms[0]}",
        "layers.#.ln2": f"{block}.{norms[1]}",
        "ln1": last,
    }


AIMV2 = Layout(
    names={
        **_names(
            "preprocessor.patchifier.proj",
            "preprocessor.patchifier.norm",
            "preprocessor.pos_embed",
            "trunk.blocks.#",
            ("norm_1", "norm_2"),
            "trunk.post_trunk_norm",
        ),
        "layers.#.attn.qkv": "trunk.blocks.#.attn.qkv",
        "layers.#.attn.proj": "trunk.blocks.#.attn.proj",
        "layers.#.ffn.layers.1": "trunk.blocks.#.mlp.fc2",
    },
    markers=("preprocessor.patchifier.proj.weight", "trunk.post_trunk_norm.weight"),
    prefixes={
        "": {},
        "image_encoder.": {
            "image_projector.*": reasons.TEXT_SPACE,
            "text_encoder.*": reasons.TEXT_TOWER,
            "text_projector.*": reasons.TEXT_SPACE,
            "log_logit_scale": reasons.TEXT_SPACE,
        },
    },
    gates=("trunk.blocks.#.mlp.fc1", "trunk.blocks.#.mlp.fc3"),
    optional_bias=_WITHOUT_BIAS,
    extras={"head.*": reasons.TEXT_SPACE},
    needs=("patch_embed.norm.weight",),
    norm="RMS",
    norm_eps=1e-5,
)

AIMV2_TIMM = Layout(
    names={
        **_names(
            "patch_embed.proj",
            "patch_embed.norm",
            "pos_embed",
            "blocks.#",
            ("norm1", "norm2"),
            "norm",
        ),
        "layers.#.attn.qkv": "blocks.#.attn.qkv",
        "layers.#.attn.proj": "blocks.#.attn.proj",
        "layers.#.ffn.layers.1": "blocks.#.mlp.fc2",
    },
    markers=(
        "patch_embed.proj.weight",
        ("patch_embed.norm.weight", "blocks.0.mlp.fc1_g.weight"),
    ),
    absent=(  # DINOv3 and EVA-02, whose SwiGLUs have these names too
        "cls_token",
        "reg_token",
        "blocks.0.attn.q_bias",
        "blocks.0.attn.q_proj.weight",
        "blocks.0.attn.k_proj.weight",
    ),
    gates=("blocks.#.mlp.fc1_g", "blocks.#.mlp.fc1_x"),
    optional_bias=_WITHOUT_BIAS,
    extras={"head.*": reasons.CLASSIFIER},
    needs=("patch_embed.norm.weight",),
    norm="RMS",
    norm_eps=1e-5,
)

HF_AIMV2 = Layout(
    names={
        **_names(
            "embeddings.patch_embed",
            "embeddings.rms_norm",
            "embeddings.position_embedding.weight",
            "encoder.layers.#",
            ("rms_norm1", "rms_norm2"),
            "rms_norm",
        ),
        "layers.#.attn.proj": "encoder.layers.#.attention.out_proj",
        "layers.#.ffn.layers.1": "encoder.layers.#.ffn.down_proj",
    },
    markers=("embeddings.patch_embed.weight", "rms_norm.weight"),
    prefixes={
        "": {},
        "vision_model.": {
            "text_model.*": reasons.TEXT_TOWER,
            "visual_projection.*": reasons.TEXT_SPACE,
            "text_projection.*": reasons.TEXT_SPACE,
            "logit_scale": reasons.TEXT_SPACE,
        },
    },
    splits={
        "layers.#.attn.qkv": (
            "encoder.layers.#.attention.q_proj",
            "encoder.layers.#.attention.k_proj",
            "encoder.layers.#.attention.v_proj",
        )
    },
    gates=("encoder.layers.#.ffn.gate_proj", "encoder.layers.#.ffn.up_proj"),
    optional_bias=_WITHOUT_BIAS,
    changes={"pos_embed": (2, lambda t: t[None])},  # (L, D) to (1, L, D)
    extras={"head.*": reasons.TEXT_SPACE},
    needs=("patch_embed.norm.weight",),
    norm="RMS",
    norm_eps=1e-5,
)
