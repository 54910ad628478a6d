"""EVA-02's names as timm stores it: queries, keys and values apart, and a SwiGLU with a norm."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Layout, derive
from milan_mm.weights.layouts.timm import TIMM_EXTRAS, TIMM_GATES, TIMM_NAMES

EVA02_TIMM = Layout(
    names=derive(TIMM_NAMES, drop=("register_tokens", "pre_norm", "layers.#.attn.qkv")),
    markers=(
        "patch_embed.proj.weight",
        ("blocks.0.attn.q_proj.weight", "blocks.0.attn.k_proj.weight"),
    ),
    prefixes={
        "": {},
        "visual.trunk.": reasons.text_model("") | {"visual.head.*": reasons.TEXT_SPACE},
    },
    splits={
        "layers.#.attn.qkv": (
            "blocks.#.attn.q_proj",
            "blocks.#.attn.k_proj",
            "blocks.#.attn.v_proj",
        )
    },
    gates=TIMM_GATES,
    key_bias=False,
    extras=TIMM_EXTRAS,
    optional={"ln1": ("fc_norm.weight",)},
)
