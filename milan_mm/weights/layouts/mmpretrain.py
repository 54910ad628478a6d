"""mmpretrain's names, which are also those of this package, and those of mmsegmentation's ViT."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import (
    BIAS_TABLE,
    MODULES,
    USUAL_MODULES,
    Layout,
    Names,
    derive,
)

_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
_HEADS = ((BIAS_TABLE, 1), (_SHARED_TABLE, 1))
_NAMES: Names = {
    **{name: name for name in ("cls_token", "pos_embed", *USUAL_MODULES, BIAS_TABLE)},
    # DeiT's distillation token is one token more, as registers are
    "register_tokens": ("register_tokens", "dist_token"),
    "layers.#.attn.rel_pos_h": "layers.#.attn.rel_pos_h",
    "layers.#.attn.rel_pos_w": "layers.#.attn.rel_pos_w",
    "layers.#.gamma_1": ("layers.#.gamma_1", "layers.#.attn.gamma1.weight"),
    "layers.#.gamma_2": ("layers.#.gamma_2", "layers.#.ffn.gamma2.weight"),
}
# Of `PlainViT` alone, whose files have these names too.
_OWN_NAMES: Names = {
    name: name for name in ("attn_pool.latent", *(m for m in MODULES if m not in USUAL_MODULES))
}
# Parts of a checkpoint that belong to the pretraining or to a task.
_AROUND = reasons.TASK_PARTS | {
    "decoder.*": reasons.DECODER,
    "neck.*": reasons.NECK,
    "head.*": "head of the pretraining or of a task",
    "target_generator.*": reasons.OTHER_MODEL,
    "momentum_encoder.*": reasons.OTHER_MODEL,  # MoCo v3's
    "teacher.*": reasons.OTHER_MODEL,  # CAE's
    "data_preprocessor.*": "statistics of a data preprocessor",
}
_EXTRAS = {
    "rel_pos_bias.relative_position_index": reasons.COUNTER,
    "layers.#.attn.relative_position_index": reasons.COUNTER,
    "mask_token": reasons.MASK_TOKEN,
}
_MMSEG_ATTENTION = ("layers.0.attn.attn.in_proj_weight", "layers.0.attn.attn.out_proj.weight")

MMPRETRAIN = Layout(
    names={**_NAMES, **_OWN_NAMES},
    markers=("patch_embed.projection.weight",),
    absent=(
        "layers.0.attn.q_bias",
        "layers.0.attn.v_bias",
        *_MMSEG_ATTENTION,
    ),
    prefixes={"": {}, "backbone.": _AROUND},
    shared_table=_SHARED_TABLE,
    extras=_EXTRAS,
    optional={"ln1": (), "cls_token": ()},  # dense and finetuned models have none
    heads=_HEADS,
    settled=False,
)

MMPRETRAIN_BEIT = Layout(
    names=derive(
        _NAMES,
        drop=(
            "register_tokens",
            "pre_norm",
            "layers.#.attn.qkv",
            "layers.#.attn.rel_pos_h",
            "layers.#.attn.rel_pos_w",
        ),
        add={
            "layers.#.attn.qkv.weight": "layers.#.attn.qkv.weight",
            "layers.#.gamma_1": "layers.#.gamma_1",
            "layers.#.gamma_2": "layers.#.gamma_2",
        },
    ),
    markers=("patch_embed.projection.weight", ("layers.0.attn.q_bias", "layers.0.attn.v_bias")),
    prefixes={"": {}, "backbone.": _AROUND},
    splits={
        "layers.#.attn.qkv.bias": (
            "layers.#.attn.q_bias",
            "layers.#.attn.k_bias",
            "layers.#.attn.v_bias",
        )
    },
    key_bias=False,
    shared_table=_SHARED_TABLE,
    extras=_EXTRAS,
    optional={"ln1": ()},
    heads=_HEADS,
    layer_scale=0.1,
)

MMSEG = Layout(
    names=derive(
        _NAMES,
        drop=(
            "register_tokens",
            "ln2",
            "layers.#.attn.qkv",
            "layers.#.attn.proj",
            "layers.#.attn.rel_pos_h",
            "layers.#.attn.rel_pos_w",
            "layers.#.gamma_1",
            "layers.#.gamma_2",
            BIAS_TABLE,
        ),
        add={
            "pre_norm": "ln_pre",
            "layers.#.attn.qkv.weight": "layers.#.attn.attn.in_proj_weight",
            "layers.#.attn.qkv.bias": "layers.#.attn.attn.in_proj_bias",
            "layers.#.attn.proj": "layers.#.attn.attn.out_proj",
        },
    ),
    markers=("patch_embed.projection.weight", _MMSEG_ATTENTION),
    prefixes={"": {}, "backbone.": _AROUND},
    # mmsegmentation builds a ViT without them unless told otherwise
    optional={"ln1": (), "patch_embed.projection.bias": ()},
    settled=False,
)
