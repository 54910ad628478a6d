"""The names of OpenAI's CLIP and of open_clip, and those of Hugging Face for the same encoders."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Change, Layout

_CHANGES: dict[str, Change] = {
    "cls_token": (1, lambda t: t[None, None]),  # (D,) to (1, 1, D)
    "pos_embed": (2, lambda t: t[None]),  # (1+L, D) to (1, 1+L, D)
}

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
    markers=("conv1.weight", "class_embedding", ("ln_post.weight", "ln_post.bias")),
    absent=("attn_pool.probe", "attn_pool.attn.in_proj_weight"),  # PE's
    prefixes={
        "": {},
        "visual.": reasons.text_model(""),
        "module.visual.": reasons.text_model("module."),
    },
    changes=_CHANGES,
    extras={"proj": reasons.TEXT_SPACE},
    needs=("pre_norm.weight", "pre_norm.bias"),
    norm_eps=1e-5,
)

_BLOCK = "encoder.layers.#"
HF_CLIP = Layout(
    names={
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.projection.weight": "embeddings.patch_embedding.weight",
        "pre_norm": "pre_layrnorm",  # spelt so there
        "layers.#.ln1": f"{_BLOCK}.layer_norm1",
        "layers.#.attn.proj": f"{_BLOCK}.self_attn.out_proj",
        "layers.#.ln2": f"{_BLOCK}.layer_norm2",
        "layers.#.ffn.layers.0.0": f"{_BLOCK}.mlp.fc1",
        "layers.#.ffn.layers.1": f"{_BLOCK}.mlp.fc2",
        "ln1": "post_layernorm",
    },
    markers=("embeddings.patch_embedding.weight", "embeddings.class_embedding"),
    prefixes={
        "": {},
        "vision_model.": {
            "text_model.*": reasons.TEXT_TOWER,
            "visual_projection.*": reasons.TEXT_SPACE,
            "text_projection.*": reasons.TEXT_SPACE,
            "logit_scale": reasons.TEXT_SPACE,
            "classifier.*": reasons.CLASSIFIER,
        },
    },
    splits={
        "layers.#.attn.qkv": (
            f"{_BLOCK}.self_attn.q_proj",
            f"{_BLOCK}.self_attn.k_proj",
            f"{_BLOCK}.self_attn.v_proj",
        )
    },
    changes=_CHANGES,
    extras={"embeddings.position_ids": reasons.COUNTER},
    needs=("pre_norm.weight", "pre_norm.bias"),
    norm_eps=1e-5,
    settled=False,  # the activation, see `stated/hugging_face.py`
)
