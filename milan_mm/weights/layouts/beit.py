"""BEiT's names: also mc-BEiT, data2vec, SimMIM, CAE, EVA, and the small ViTs of EVA-02."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import BIAS_TABLE, Layout, derive
from milan_mm.weights.layouts.timm import TIMM_EXTRAS, TIMM_GATES, TIMM_NAMES, TIMM_TASKS

QV_BIAS = {
    "layers.#.attn.qkv.bias": (
        "blocks.#.attn.q_bias",
        "blocks.#.attn.k_bias",
        "blocks.#.attn.v_bias",
    )
}

BEIT = Layout(
    names=derive(
        TIMM_NAMES,
        drop=("register_tokens", "pre_norm", "layers.#.attn.qkv"),
        add={
            "layers.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
            "layers.#.gamma_1": "blocks.#.gamma_1",
            "layers.#.gamma_2": "blocks.#.gamma_2",
            BIAS_TABLE: "blocks.#.attn.relative_position_bias_table",
        },
    ),
    markers=("patch_embed.proj.weight", ("blocks.0.attn.q_bias", "blocks.0.attn.v_bias")),
    absent=(
        "reg_token",
        "storage_tokens",
        "blocks.0.attn.q_proj.weight",  # of EVA-02
        "blocks.0.attn.k_proj.weight",
    ),
    prefixes={
        "": {},
        "module.": {},
        # SimMIM and CAE store the encoder together with their other networks
        "encoder.": {
            "decoder.*": reasons.DECODER,
            "teacher.*": reasons.OTHER_MODEL,
            "pretext_neck.*": reasons.DECODER,
            "encoder_to_decoder.*": reasons.DECODER,
            "encoder_to_decoder_norm.*": reasons.DECODER,
            "regressor_and_decoder.*": reasons.DECODER,
            "mask_token": reasons.MASK_TOKEN,
        },
        # EVA-CLIP's, as its authors and as open_clip store it
        "visual.": reasons.text_model(""),
        "visual.trunk.": reasons.text_model("") | {"visual.head.*": reasons.TEXT_SPACE},
        "backbone.": TIMM_TASKS
        | {
            "head.*": reasons.CLASSIFIER,
            "target_generator.*": reasons.OTHER_MODEL,
        },
    },
    splits=QV_BIAS,
    gates=TIMM_GATES,
    key_bias=False,
    shared_table="rel_pos_bias.relative_position_bias_table",
    extras=TIMM_EXTRAS
    | reasons.ROTARY_TABLES
    | {
        "rel_pos_bias.relative_position_index": reasons.COUNTER,
        # BEiT v2 trains its class token by two more layers
        "cls_pt_layers.*": reasons.PRETRAINING_HEAD,
        "cls_pt_norm.*": reasons.PRETRAINING_HEAD,
        "cls_pt_lm_head.*": reasons.PRETRAINING_HEAD,
        "blocks.#.attn.relative_position_index": reasons.COUNTER,
    },
    optional={"ln1": ("fc_norm.weight", "^decode_head.*")},
    heads=(
        ("rel_pos_bias.relative_position_bias_table", 1),
        ("blocks.#.attn.relative_position_bias_table", 1),
    ),
    layer_scale=0.1,
)
