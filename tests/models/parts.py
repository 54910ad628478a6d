"""Small encoders with the parts of newer systems, one kind or several in each."""

from typing import Any

from mmengine.config import Config
from torch import Tensor

from milan_mm.models.plain_vit import PlainViT
from tests.helpers import TINY_ARCH, tiny_vit

EVA = dict(act="SwiGLU", mlp_norm=True, rope_base=1e4, rope_kind="eva02", rope_grid=(16, 16))
# Name -> options of a `PlainViT`.
PARTS: dict[str, dict[str, Any]] = {
    "SwiGLU": dict(act="SwiGLU", mlp_dims=100, layer_scale=0.5),
    "AIMv2": dict(act="SwiGLU", norm="RMS", patch_norm=True, with_cls_token=False),
    "EVA-02-CLIP": dict(EVA, attn_norm=True),
    "PE": dict(rope_base=1e4, rope_kind="pe", pre_norm=True, patch_bias=False, norm_eps=1e-5),
    "DINOv3": dict(rope_base=100.0, num_registers=2, with_pos_embed=False, layer_scale=0.5),
    "q/k norms": dict(qk_norm=True),
    "registers": dict(num_registers=3, layer_scale=0.5),
    "SigLIP": dict(with_cls_token=False, act="GELUTanh", pool_heads=2, pool_dims=100),
    "mmseg": dict(patch_bias=False, final_norm=False),
    "rotary and a table": dict(rope_base=100.0),
}


def vit_of(part: str, **options: Any) -> PlainViT:
    """One of `PARTS`, which returns all tokens, or what its own pooling makes of them."""
    out_type = "attn_pool" if "pool_heads" in PARTS[part] else "raw"
    return tiny_vit(**(dict(out_type=out_type) | PARTS[part] | options))


def checkpoint_of(part: str, **options: Any) -> tuple[PlainViT, dict[str, Any]]:
    """One of them, and the file of its training by mmengine."""
    vit = vit_of(part, **options)
    sizes = dict(type="milan_mm.PlainViT", arch=TINY_ARCH, img_size=32, patch_size=8)
    given = dict(out_type=vit.options.out_type) | PARTS[part] | options
    stats = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
    model = dict(backbone=sizes | given, data_preprocessor=stats)
    state: dict[str, Tensor] = {f"backbone.{n}": t for n, t in vit.state_dict().items()}
    return vit, dict(state_dict=state, meta=dict(cfg=Config(dict(model=model)).pretty_text))
