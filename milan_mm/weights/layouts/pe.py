"""The names of Meta's Perception Encoder: CLIP's, and an attention pooling in PE core.

PE spatial and PE lang have neither this pooling nor a norm after the last block.
"""

from milan_mm.weights.layouts import reasons
from milan_mm.weights.layouts.clip import CLIP
from milan_mm.weights.layouts.siglip import POOL_CHANGES, pool_names
from milan_mm.weights.layouts.table import Layout, derive

_NO_CLASS_TOKEN = {"cls_token": ()}  # of their ViT-G
_PRE_NORM = ("pre_norm.weight", "pre_norm.bias")

PE = Layout(
    names={
        **CLIP.names,
        **pool_names("attn_pool", "attn", "layernorm", ("mlp.c_fc", "mlp.c_proj")),
    },
    markers=("conv1.weight", ("attn_pool.probe", "attn_pool.attn.in_proj_weight")),
    prefixes=CLIP.prefixes,
    changes={**CLIP.changes, **POOL_CHANGES},
    extras={"proj": reasons.TEXT_SPACE},
    optional=_NO_CLASS_TOKEN,
    needs=(*_PRE_NORM, "attn_pool.latent"),
    norm_eps=1e-5,
)

# Neither has a text tower beside it. With a norm after its last block it would be a CLIP.
PE_SPATIAL = Layout(
    names=derive(CLIP.names, drop=("ln1",)),
    markers=("conv1.weight", ("ln_pre.weight", "ln_pre.bias")),
    absent=("ln_post.weight", "ln_post.bias", "attn_pool.probe", "attn_pool.attn.in_proj_weight"),
    prefixes={"": {}, "module.": {}, "visual.": {}, "module.visual.": {}},
    changes=CLIP.changes,
    optional=_NO_CLASS_TOKEN,
    needs=_PRE_NORM,
    norm_eps=1e-5,
)
