"""EVA-02's names, as its authors and as timm store it: queries, keys and values apart, and a SwiGLU
with a norm. Its tiny and small ViTs have BEiT's names."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.beit import QV_BIAS
from milan_mm.weights.layouts.table import Layout, derive
from milan_mm.weights.layouts.timm import TIMM_EXTRAS, TIMM_GATES, TIMM_NAMES

_NAMES = derive(TIMM_NAMES, drop=("register_tokens", "pre_norm", "layers.#.attn.qkv"))
_APART = ("blocks.#.attn.q_proj", "blocks.#.attn.k_proj", "blocks.#.attn.v_proj")
_MARKERS = (
    "patch_embed.proj.weight",
    ("blocks.0.attn.q_proj.weight", "blocks.0.attn.k_proj.weight"),
)
_BIASES = ("blocks.0.attn.q_bias", "blocks.0.attn.v_bias")

EVA02 = Layout(
    names=derive(
        _NAMES,
        drop=("layers.#.ffn.layers.0.0",),
        add={
            "layers.#.attn.norm": "blocks.#.attn.inner_attn_ln",
            "layers.#.ffn.layers.1": "blocks.#.mlp.w3",
            "layers.#.ffn.norm": "blocks.#.mlp.ffn_ln",
        },
    ),
    markers=(*_MARKERS, _BIASES),
    prefixes={"": {}, "module.": {}, "visual.": reasons.text_model("")},
    splits={
        "layers.#.attn.qkv.weight": tuple(f"{name}.weight" for name in _APART),  # type: ignore[dict-item]
        **QV_BIAS,
    },
    gates=("blocks.#.mlp.w1", "blocks.#.mlp.w2"),
    key_bias=False,
    extras=TIMM_EXTRAS | reasons.ROTARY_TABLES,
    optional={"ln1": ("fc_norm.weight",)},
)

EVA02_TIMM = Layout(
    names=_NAMES,
    markers=_MARKERS,
    absent=_BIASES,
    prefixes={
        "": {},
        "visual.trunk.": reasons.text_model("") | {"visual.head.*": reasons.TEXT_SPACE},
    },
    splits={"layers.#.attn.qkv": _APART},
    gates=TIMM_GATES,
    key_bias=False,
    extras=TIMM_EXTRAS,
    optional={"ln1": ("fc_norm.weight",)},
)
