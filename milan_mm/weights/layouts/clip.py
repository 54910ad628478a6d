"""The names of OpenAI's CLIP and of open_clip."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Layout

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
    absent=("attn_pool.probe",),
    prefixes={
        "": {},
        "visual.": reasons.text_model(""),
        "module.visual.": reasons.text_model("module."),
    },
    changes={
        "cls_token": (1, lambda t: t[None, None]),  # (D,) to (1, 1, D)
        "pos_embed": (2, lambda t: t[None]),  # (1+L, D) to (1, 1+L, D)
    },
    extras={"proj": reasons.TEXT_SPACE},
    needs=("pre_norm.weight", "pre_norm.bias"),
    norm_eps=1e-5,
)
