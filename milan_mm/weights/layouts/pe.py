"""The names of Meta's Perception Encoder (PE core): CLIP's, with an attention pooling."""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.clip import CLIP
from milan_mm.weights.layouts.siglip import POOL_CHANGES, pool_names
from milan_mm.weights.layouts.table import Layout

PE = Layout(
    names={
        **CLIP.names,
        **pool_names("attn_pool", "attn", "layernorm", ("mlp.c_fc", "mlp.c_proj")),
    },
    markers=("conv1.weight", ("attn_pool.probe", "attn_pool.attn.in_proj_weight")),
    prefixes=CLIP.prefixes,
    changes={**CLIP.changes, **POOL_CHANGES},
    extras={"proj": reasons.TEXT_SPACE},
    optional={"cls_token": ()},  # PE-G has none
    needs=("pre_norm.weight", "pre_norm.bias", "attn_pool.latent"),
    norm_eps=1e-5,
)
