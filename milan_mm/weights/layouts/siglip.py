"""Hugging Face's names of SigLIP: attention pooling instead of a class token."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Change, Layout, Names


def pool_names(pool: str, attention: str, norm: str, mlp: tuple[str, str]) -> Names:
    """An attention pooling whose attention is torch's, with queries, keys and values in one.

    Args:
        pool: What stands before all names, without its point.
        attention, norm: Names of the parts below it.
        mlp: Names of the two layers of the MLP.
    """
    return {
        "attn_pool.latent": f"{pool}.probe",
        **{
            f"attn_pool.{part}.{kind}": f"{pool}.{attention}.in_proj_{kind}"
            for part in ("q", "kv")
            for kind in ("weight", "bias")
        },
        "attn_pool.proj": f"{pool}.{attention}.out_proj",
        "attn_pool.norm": f"{pool}.{norm}",
        "attn_pool.mlp.fc1": f"{pool}.{mlp[0]}",
        "attn_pool.mlp.fc2": f"{pool}.{mlp[1]}",
    }


POOL_CHANGES: dict[str, Change] = {
    "attn_pool.q.weight": (2, lambda t: t[: len(t) // 3]),
    "attn_pool.q.bias": (1, lambda t: t[: len(t) // 3]),
    "attn_pool.kv.weight": (2, lambda t: t[len(t) // 3 :]),
    "attn_pool.kv.bias": (1, lambda t: t[len(t) // 3 :]),
}
_BLOCK = "encoder.layers.#"

HF_SIGLIP = Layout(
    names={
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.projection": "embeddings.patch_embedding",
        "layers.#.ln1": f"{_BLOCK}.layer_norm1",
        "layers.#.attn.proj": f"{_BLOCK}.self_attn.out_proj",
        "layers.#.ln2": f"{_BLOCK}.layer_norm2",
        "layers.#.ffn.layers.0.0": f"{_BLOCK}.mlp.fc1",
        "layers.#.ffn.layers.1": f"{_BLOCK}.mlp.fc2",
        "ln1": "post_layernorm",
        **pool_names("head", "attention", "layernorm", ("mlp.fc1", "mlp.fc2")),
    },
    markers=("embeddings.patch_embedding.weight", "post_layernorm.weight"),
    absent=("embeddings.class_embedding", "pre_layrnorm.weight", "pre_layrnorm.bias"),
    prefixes={
        "": {},
        "vision_model.": {
            "text_model.*": reasons.TEXT_TOWER,
            "logit_scale": reasons.TEXT_SPACE,
            "logit_bias": reasons.TEXT_SPACE,
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
    changes={"pos_embed": (2, lambda t: t[None]), **POOL_CHANGES},  # (L, D) to (1, L, D)
    extras={"embeddings.position_ids": reasons.COUNTER},
)
