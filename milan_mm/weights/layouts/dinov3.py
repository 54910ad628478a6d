"""DINOv3's names, as its authors and as timm store it."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.beit import QV_BIAS
from milan_mm.weights.layouts.table import Layout, derive
from milan_mm.weights.layouts.timm import DINO_HEADS, TIMM_GATES, TIMM_NAMES

_UNUSED = ("pos_embed", "pre_norm", "ln2")

DINOV3 = Layout(
    names=derive(TIMM_NAMES, drop=_UNUSED, add={"register_tokens": "storage_tokens"}),
    gates=("blocks.#.mlp.w1", "blocks.#.mlp.w2"),  # of S+, H+ and 7B
    markers=("patch_embed.proj.weight", ("storage_tokens", "rope_embed.periods")),
    prefixes={"": {}, "module.": {}, "backbone.": DINO_HEADS},
    extras={
        "rope_embed.periods": reasons.COUNTER,
        "blocks.#.attn.qkv.bias_mask": "says that the key bias is zero, and it is zeroed here",
        "local_cls_norm.*": reasons.PRETRAINING_HEAD,
        "mask_token": reasons.MASK_TOKEN,
        "head.*": reasons.CLASSIFIER,
    },
    optional_bias=("layers.#.attn.qkv.bias",),  # 7B has none
    needs=("register_tokens",),
    num_registers=4,
    norm_eps=1e-5,
)

DINOV3_TIMM = Layout(
    names=derive(
        TIMM_NAMES,
        drop=(*_UNUSED, "layers.#.attn.qkv"),
        add={
            "register_tokens": "reg_token",
            "layers.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
            "layers.#.gamma_1": "blocks.#.gamma_1",
            "layers.#.gamma_2": "blocks.#.gamma_2",
        },
    ),
    markers=("patch_embed.proj.weight", "reg_token"),
    absent=("pos_embed", "storage_tokens"),
    splits=QV_BIAS,
    gates=TIMM_GATES,
    key_bias=False,
    optional_bias=("layers.#.attn.qkv.bias",),
    extras={"head.*": reasons.CLASSIFIER},
    num_registers=4,
    norm_eps=1e-5,
)
