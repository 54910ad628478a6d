"""The Flax arrays of AugReg (`.npz`), in the numbering of both versions of the code."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.table import Layout


def _layout(
    norm2: str, attention: str, mlp: str, positions: str, prefixes: tuple[str, ...]
) -> Layout:
    """Kernels are (in, out), convolutions HWIO, and attention keeps its heads apart."""
    block = "Transformer/encoderblock_#"
    query, key, value, out = (
        f"{block}/{attention}/{part}" for part in ("query", "key", "value", "out")
    )
    return Layout(
        names={
            "cls_token": "cls",
            "pos_embed": positions,
            "patch_embed.projection.weight": "embedding/kernel",
            "patch_embed.projection.bias": "embedding/bias",
            "layers.#.ln1.weight": f"{block}/LayerNorm_0/scale",
            "layers.#.ln1.bias": f"{block}/LayerNorm_0/bias",
            "layers.#.attn.proj.weight": f"{out}/kernel",
            "layers.#.attn.proj.bias": f"{out}/bias",
            "layers.#.ln2.weight": f"{block}/{norm2}/scale",
            "layers.#.ln2.bias": f"{block}/{norm2}/bias",
            "layers.#.ffn.layers.0.0.weight": f"{block}/{mlp}/Dense_0/kernel",
            "layers.#.ffn.layers.0.0.bias": f"{block}/{mlp}/Dense_0/bias",
            "layers.#.ffn.layers.1.weight": f"{block}/{mlp}/Dense_1/kernel",
            "layers.#.ffn.layers.1.bias": f"{block}/{mlp}/Dense_1/bias",
            "ln1.weight": "Transformer/encoder_norm/scale",
            "ln1.bias": "Transformer/encoder_norm/bias",
        },
        markers=("embedding/kernel", positions),
        prefixes={prefix: {} for prefix in prefixes},
        splits={
            "layers.#.attn.qkv.weight": (f"{query}/kernel", f"{key}/kernel", f"{value}/kernel"),
            "layers.#.attn.qkv.bias": (f"{query}/bias", f"{key}/bias", f"{value}/bias"),
        },
        changes={
            "patch_embed.projection.weight": (4, lambda t: t.permute(3, 2, 0, 1)),  # HWIO to OIHW
            "layers.#.attn.qkv.weight": (3, lambda t: t.flatten(1).T),  # (D, A, d) to (A*d, D)
            "layers.#.attn.qkv.bias": (2, lambda t: t.flatten()),  # (A, d) to (A*d,)
            "layers.#.attn.proj.weight": (3, lambda t: t.flatten(0, 1).T),  # (A, d, D) to (D, A*d)
            "layers.#.ffn.layers.0.0.weight": (2, lambda t: t.T),
            "layers.#.ffn.layers.1.weight": (2, lambda t: t.T),
        },
        extras={"head/*": reasons.CLASSIFIER, "pre_logits/*": reasons.CLASSIFIER},
        heads=(
            *((f"{part}/kernel", 1) for part in (query, key, value)),
            *((f"{part}/bias", 0) for part in (query, key, value)),
            (f"{out}/kernel", 0),
        ),
    )


AUGREG = _layout(
    norm2="LayerNorm_2",
    attention="MultiHeadDotProductAttention_1",
    mlp="MlpBlock_3",
    positions="Transformer/posembed_input/pos_embedding",
    prefixes=("", "opt/target/", "params/"),
)
BIG_VISION = _layout(
    norm2="LayerNorm_1",
    attention="MultiHeadDotProductAttention_0",
    mlp="MlpBlock_0",
    positions="pos_embedding",
    prefixes=("", "params/", "opt/target/"),
)
