"""The pretraining systems, one row each: how a file of theirs is recognised, and what they do.

To add a system, add a row, and a layout (`layouts/`) if its tensors have names of their own.
Several systems write the same names, so the row that is found is the most probable one, and
whatever depends on it alone is reported as assumed.

`python -m milan_mm.weights.systems` prints the table of docs/weights.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from milan_mm.weights.finding import Found, ancestors
from milan_mm.weights.layouts import reasons
from milan_mm.weights.position_rows import sincos_order, square_side
from milan_mm.weights.statistics import stats_text

POOLINGS = ("cls", "mean", "pool")
# What tells architectures apart: name in this file -> in messages.
PARTS = {
    "table": "a position table",
    "bias": "relative position bias",
    "rope": "rotary positions",
    "scale": "layer scale",
    "registers": "registers",
    "pre_norm": "a norm before the first block",
}
Test = Callable[[Found], bool]


class Rope(NamedTuple):
    """Rotary positions that leave no trace in a file.

    Attributes:
        kind: Key of `ROPE_KINDS`.
        base: Of the periods.
        grid: (h, w) in patches that the numbers of the patches are scaled to.
    """

    kind: str
    base: float
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class System:
    """A pretraining system.

    Attributes:
        name: As users write it after `--system`.
        layouts: Keys of `LAYOUTS` that its files come in.
        stats: What it normalises images by.
        pooling: 'cls', 'mean' over the patches followed by a norm, or 'pool' for an attention
            pooling of its own, in its own classification.
        wrote: Whether a file in one of these layouts is probably its own; None for systems whose
            files look like another's, so that only the user can name it.
        sizes: Sides, in pixels, of the images that its published plain ViTs were trained on; empty
            where there are many, or where anybody's files are taken for this system.
        heads: (width, blocks) -> attention heads, where they are not the usual ones; several where
            files with several are published, so that only the user can know.
        rope: Rotary positions of all its encoders, unless they are DINOv3's.
        pool_heads: Of its attention pooling, where they are not those of its blocks.
        parts: Parts that all its encoders have, of `PARTS`; None where it may be any.
        may_have: Parts that some of them have.
        twin: What other models write the same tensors and compute something else; '' where none
            is known.
        act: Activation of the MLPs, where the layout does not settle it.
        act_note: Why `act` is uncertain; '' where it is not.
        pos_resize: Key of `RESIZE_RULES`: how its own code resizes position tables.
        hf_types: `model_type` in a config.json of Hugging Face.
        timm_name: Part of timm's names for its models.
        note: What is uncertain about name, statistics or pooling; '' where nothing is.
        stored: For the table in the docs: where the tensors are in a file.
        differs: For the table in the docs: what an encoder of MAE does not have.
    """

    name: str
    layouts: tuple[str, ...]
    stats: str
    pooling: str
    wrote: Test | None = lambda found: True
    sizes: tuple[int, ...] = ()
    heads: Mapping[tuple[int, int], int | tuple[int, ...]] = field(default_factory=dict)
    rope: Rope | None = None
    pool_heads: int | None = None
    parts: tuple[str, ...] | None = ("table",)
    may_have: tuple[str, ...] = ()
    twin: str = ""
    act: str | None = None
    act_note: str = ""
    pos_resize: str = "bicubic"
    hf_types: tuple[str, ...] = ()
    timm_name: str | None = None
    note: str = ""
    stored: str = ""
    differs: str = ""

    @property
    def has_rope(self) -> bool:
        """Whether all its encoders have rotary positions."""
        return "rope" in (self.parts or ())

    def resize_rule(self, num_registers: int) -> str:
        """`pos_resize`, of an encoder with so many registers."""
        is_dinov2 = self.name == "DINOv2"  # its code for registers came later, with another rule
        return "bicubic-antialias" if is_dinov2 and num_registers else self.pos_resize


def _has(*names: str) -> Test:
    """Any of these tensors."""
    return lambda found: any(name in found.tower for name in names)


def _beside(found: Found, *starts: str) -> bool:
    """Whether a name beside the encoder begins with one of these."""
    whole = tuple(before + start for before in ancestors(found.outer) for start in starts)
    return any(name.startswith(whole) for name in found.state_dict)


def _in_a_task(found: Found) -> bool:
    """Whether it stands in a detector or segmentor, with which it was finetuned."""
    return _beside(found, *(part.removesuffix("*") for part in reasons.TASK_PARTS))


def _has_order(found: Found, order: str) -> bool:
    """A sine-cosine table in this order."""
    return sincos_order(found.tower["pos_embed"]) == order


def _has_registers(found: Found, number: int) -> bool:
    tokens = found.tower.get("register_tokens", found.tower.get("reg_token"))
    return isinstance(tokens, Tensor) and tokens.ndim == 3 and tokens.shape[1] == number


def _gated_width(found: Found) -> int | None:
    """Width of an encoder in DINOv2's names with a SwiGLU, which in DINOv2 only ViT-g has."""
    patches = found.tower.get("patch_embed.proj.weight")
    names = ("blocks.0.mlp.w12.weight", "blocks.0.mlp.w3.weight")
    if found.layout == "hf-dinov2":
        patches = found.tower.get("embeddings.patch_embeddings.projection.weight")
        names = ("encoder.layer.0.mlp.weights_in.weight", "encoder.layer.0.mlp.weights_out.weight")
    is_gated = any(name in found.tower for name in names)
    return len(patches) if is_gated and isinstance(patches, Tensor) else None


def _wrote_dinov2(found: Found) -> bool:
    """DeiT III has layer scale too, but neither registers nor a position for its class token."""
    if found.layout == "hf-dinov2":
        return True
    tower = found.tower
    rows = tower["pos_embed"].shape[1] if tower["pos_embed"].ndim == 3 else 0
    deit_iii = "reg_token" not in tower and square_side(rows)
    return "blocks.0.ls1.gamma" in tower and not deit_iii


def _wrote_data2vec(found: Found) -> bool:
    """Its head predicts features of its own width; those of the others choose among tokens."""
    if found.inner == "data2vec_vision.":
        return True
    head = found.tower.get("lm_head.weight")
    is_bare = found.layout == "beit" and found.inner != "encoder."
    return is_bare and head is not None and head.shape[0] == head.shape[-1]


def _is_packed(found: Found) -> bool:
    """BEiT's names with a SwiGLU in one layer: EVA-02's tiny and small ViTs, and timm's of them."""
    for names in (("fc1", "fc2"), ("w12", "w3")):
        first, last = (found.tower.get(f"blocks.0.mlp.{name}.weight") for name in names)
        if isinstance(first, Tensor) and isinstance(last, Tensor):
            return first.ndim == last.ndim == 2 and len(first) == 2 * last.shape[1]
    return False


def _wrote_eva(found: Found) -> bool:
    """BEiT's biases of queries and values, with a position table and without layer scale."""
    tower = found.tower
    return "pos_embed" in tower and "blocks.0.gamma_1" not in tower and not _in_a_task(found)


# Of its ViT-300M, 2B, 3B, 5B and 7B.
WEB_DINO_WIDTHS = (1024, 2688, 3072, 3584, 4096)
_BEIT_LAYOUTS = ("beit", "mmpretrain-beit", "hf-beit")
_BEIT_PARTS = ("bias", "scale")
# MAE-Lite (arXiv 2205.14443) has 12 heads in small and tiny ViTs, others have the usual number.
_MAE_HEADS = {(192, 12): (3, 12), (384, 12): (6, 12)}
_ROPE_TWIN = (
    "ViTs with rotary positions besides the table (rope-vit: rope_axial_ape_*, timm: "
    "*_rope_ape_*) write the same tensors, and their features would be wrong"
)
_AS_BEIT = "relative position bias instead of a table, layer scale, no key bias"
_UNPUBLISHED = "published no weights: its statistics are unknown"
UNCHANGED = stats_text(0, 1)  # images in 0-1, not normalised
_MANY = "many systems write these names"

# name, layouts, statistics, pooling. The first row that has the layout of a file and whose `wrote`
# holds is taken; of timm's names the first row whose `timm_name` is part of it.
# fmt: off
_ROWS = (
    System("MILAN", ("timm",), "imagenet", "mean", sizes=(224,),
           wrote=_has("decoder_blocks.0.attn.kv.weight"), stored="`model`; the decoder is dropped"),
    System("MAE", ("timm",), "imagenet", "mean", sizes=(224,),
           wrote=_has("decoder_blocks.0.attn.qkv.weight"), hf_types=("vit_mae",), timm_name="mae",
           stored="`model`; the decoder is dropped",
           heads=_MAE_HEADS),
    System("MaskFeat", ("timm",), "imagenet", "mean", sizes=(224,),
           wrote=_has("pred_head.transforms.0.0.weight", "pred_head.projections.0.weight"),
           stored="`model_state`", differs="no final norm"),
    System("SLIP", ("timm",), "imagenet", "cls", sizes=(224,),
           wrote=lambda found: found.prefix.endswith("visual."),
           stored="`state_dict`, `module.visual.`",
           differs="ViT-S has 12 heads", heads={(384, 12): 12}),
    System("iBOT", ("timm",), "imagenet", "cls",
           pos_resize="bicubic-offset", sizes=(224,), wrote=_has("masked_embed"),
           stored="`state_dict`, or `teacher`"),
    System("CLIP", ("clip", "hf-clip"), "clip", "cls", pos_resize="bicubic-antialias",
           act="QuickGELU",
           wrote=lambda found: found.layout == "hf-clip"
           or "input_resolution" in found.state_dict,
           stored="TorchScript, `visual.`, or a folder",
           differs="norm before the first block, no patch bias, QuickGELU, epsilon 1e-5",
           parts=("table", "pre_norm")),
    System("PE", ("pe", "pe-spatial", "timm"), "half", "pool", pos_resize="bilinear",
           timm_name="vit_pe_", wrote=lambda found: found.layout.startswith("pe")
           or {"attn_pool.latent", "norm_pre.weight"} <= found.tower.keys(),
           stored="flat, `[module.]visual.`, or a folder of timm",
           differs="norm before the first block, no patch bias, rotary positions and a table, "
           "attention pooling, epsilon 1e-5; no class token in G; spatial and lang have no "
           "pooling and no final norm, some have layer scale",
           parts=("table", "rope", "pre_norm"), may_have=("scale",), pool_heads=8,
           rope=Rope("pe", 10000.0), heads={(1536, 50): 16, (1536, 47): 16, (1024, 23): 16}),
    System("SigLIP 2", ("timm", "hf-siglip"), "half", "pool", pos_resize="bilinear-corners",
           act="GELUTanh", wrote=None, timm_name="v2_webli", stored="a folder of timm",
           note="its files are taken for SigLIP's, unless a config of timm says so; statistics "
           "and pooling are the same", differs="as SigLIP", heads={(1536, 40): 16}),
    System("SigLIP", ("timm", "hf-siglip"), "half", "pool", pos_resize="bilinear-corners",
           act="GELUTanh", wrote=lambda found: found.layout == "hf-siglip"
           or "attn_pool.latent" in found.tower, hf_types=("siglip", "siglip_vision_model"),
           timm_name="siglip", stored="flat, `visual.trunk.`, or a folder",
           act_note="GELUTanh, as SigLIP's own code has it; timm's configs of its first ViT-B and "
           "ViT-L say GELU, which differs by less than 0.001",
           differs="no class token, attention pooling, GELU's tanh approximation",
           heads={(1536, 40): 16}),
    System("AIMv2", ("aimv2", "aimv2-timm", "hf-aimv2"), "clip", "mean",
           pos_resize="bicubic-antialias", hf_types=("aimv2", "aimv2_vision_model"),
           timm_name="aimv2", stored="flat, or a folder",
           differs="no class token, RMSNorm, a norm of the patches, SwiGLU, no biases in the "
           "blocks, epsilon 1e-5",
           heads={(768, 12): 6, (1024, 24): 8, (1536, 24): 12, (2048, 24): 16, (3072, 24): 24}),
    System("I-JEPA", ("timm", "hf-vit"), "imagenet", "mean", sizes=(224, 448),
           wrote=lambda found: "embeddings.cls_token" not in found.tower
           if found.layout == "hf-vit"
           else found.wrapper in ("target_encoder", "encoder") and "cls_token" not in found.tower,
           hf_types=("ijepa",), timm_name="ijepa",
           stored="`target_encoder`, `module.`; `--student`: `encoder`; or a folder",
           differs="no class token"),
    System("C-RADIO", ("timm",), "clip", "cls", pos_resize="bilinear", wrote=None,
           timm_name="radio", stored="a folder of timm",
           differs="class tokens of several teachers as registers, no final norm; layer scale in "
           "B and L", parts=("table", "registers"), may_have=("scale",)),
    System("EVA-02", ("eva02", "eva02-timm", "beit"), "clip", "mean", timm_name="eva02",
           wrote=lambda found: found.layout != "beit" or _is_packed(found),
           stored="`module`, `model`, flat, `visual.[trunk.]`, or a folder of timm",
           differs="rotary positions and a table, SwiGLU with a norm, no key bias",
           note="EVA-02-CLIP takes 'cls'", parts=("table", "rope"),
           rope=Rope("eva02", 10000.0, (16, 16))),
    System("EVA", ("beit",), "clip", "mean", timm_name="eva_", wrote=_wrote_eva,
           stored="`module`, `model`, flat, `visual.[trunk.]`, or a folder of timm",
           note="EVA-CLIP takes 'cls'", differs="no key bias"),
    System("MetaCLIP 2", ("hf-clip", "timm"), "clip", "cls", pos_resize="bicubic-antialias",
           wrote=None, hf_types=("metaclip_2", "metaclip_2_vision_model"), timm_name="metaclip2",
           stored="a folder; in open_clip's files as CLIP or open_clip",
           differs="as CLIP, with QuickGELU or GELU", parts=("table", "pre_norm")),
    System("open_clip", ("clip", "hf-clip", "timm"), "clip", "cls",
           pos_resize="bicubic-antialias", act="GELU",
           wrote=lambda found: found.layout == "clip" or "norm_pre.weight" in found.tower
           or found.prefix.endswith("visual.trunk."),
           act_note="GELU, as open_clip's LAION and DataComp weights have; its OpenAI, MetaCLIP "
           "and DFN weights need QuickGELU, which the tensors do not show: give --system CLIP for "
           "those",
           stored="flat or `state_dict`, `[module.]visual.`, or a folder",
           differs="as CLIP, with GELU",
           may_have=("pre_norm", "scale")),
    System("MSN", ("timm", "hf-vit"), "imagenet", "cls", sizes=(224,), hf_types=("vit_msn",),
           wrote=lambda found: found.wrapper in ("target_encoder", "encoder")
           and "cls_token" in found.tower,
           stored="`target_encoder`, `module.`; `--student`: `encoder`; or a folder"),
    System("DINOv3", ("dinov3", "dinov3-timm", "hf-dinov3"), "imagenet", "cls",
           hf_types=("dinov3_vit",), timm_name="dinov3", stored="flat, or a folder",
           differs="rotary positions, registers, layer scale, epsilon 1e-5; SwiGLU in S+, H+, 7B",
           heads={(1280, 32): 20},
           parts=("rope", "registers", "scale")),
    System("TIPS", ("timm",), UNCHANGED, "cls", pos_resize="bilinear-antialias", sizes=(224, 448),
           wrote=lambda found: _has_registers(found, 1) and "blocks.0.ls1.gamma" in found.tower,
           timm_name="tips", stored="arrays (`.npz`), flat", parts=("table", "scale", "registers"),
           differs="layer scale, patches of 14 px, a second class token as a register"),
    System("Franca", ("timm",), "imagenet", "cls", pos_resize="bicubic-offset", sizes=(224, 518),
           wrote=lambda found: _gated_width(found) == 768
           or (_gated_width(found) == 1024 and found.wrapper == "teacher"),
           stored="`teacher`, `backbone.`", parts=("table", "scale"),
           differs="layer scale, SwiGLU, patches of 14 px",
           note="its ViT-g writes the names of DINOv2's, and is like it"),
    System("Web-DINO", ("timm", "hf-dinov2"), "imagenet", "cls", pos_resize="bicubic-offset",
           wrote=lambda found: _gated_width(found) in WEB_DINO_WIDTHS, sizes=(224, 378, 518),
           stored="flat, or a folder", parts=("table", "scale"),
           differs="layer scale, SwiGLU, patches of 14 px",
           note="its ViT-1B writes the names of DINOv2-g, and is like it"),
    System("DINOv2", ("timm", "hf-dinov2"), "imagenet", "cls",
           pos_resize="bicubic-offset", wrote=_wrote_dinov2,
           hf_types=("dinov2", "dinov2_with_registers"), timm_name="dinov2",
           stored="flat, or a folder",
           differs="layer scale, registers, patches of 14 px; SwiGLU in g",
           parts=("table", "scale"), may_have=("registers",)),
    System("DeiT III", ("timm",), "imagenet", "cls", sizes=(224, 384),
           wrote=_has("blocks.0.ls1.gamma", "blocks.0.gamma_1"), timm_name="deit3",
           stored="`model`", differs="layer scale; no position for the class token",
           parts=("table", "scale"), twin=_ROPE_TWIN),
    System("ViTDet", ("timm",), "imagenet", "mean", act="GELU",
           wrote=_has("blocks.0.attn.rel_pos_h"),
           stored="`model`, `backbone.net.`, or `state_dict`, `backbone.`", heads=_MAE_HEADS,
           note="detectron2 and mmdetection train it from MAE's weights",
           differs="no class token, no final norm; windows and relative positions"),
    System("finetuned ViT", ("timm",), "imagenet", "mean",
           wrote=lambda found: "fc_norm.weight" in found.tower or _in_a_task(found),
           note=_MANY, stored="`model`, or `state_dict`, `backbone.`", differs="no final norm",
           heads=_MAE_HEADS, parts=None),
    System("VISSL", ("timm", "beit"), "imagenet", "cls",
           wrote=lambda found: found.wrapper == "classy_state_dict",
           stored="`classy_state_dict`, under `base_model`, `model`, `trunk`",
           note="VISSL trains DINO, MSN, iBOT and supervised ViTs", parts=None),
    System("lightly", ("timm", "torchvision"), "imagenet", "cls", pos_resize="bicubic-antialias",
           wrote=lambda found: found.inner.endswith(("backbone.vit.", "teacher_backbone.",
                                                     "student_backbone.")),
           stored="`state_dict`, `[teacher_]backbone.vit.`; `--student`: `student_backbone.vit.`",
           note="lightly trains many methods", parts=None),
    System("solo-learn", ("timm",), "imagenet", "cls", pos_resize="bicubic-antialias",
           wrote=lambda found: found.inner == "backbone." and _beside(found, "classifier.")
           and _beside(found, "projector.", "head.", "predictor.", "decoder.",
                       "momentum_backbone."),
           stored="`state_dict`, `backbone.`; the momentum encoder is dropped",
           note="solo-learn trains many methods", differs="ViTs of MAE and MoCo v3 have 12 heads",
           heads=_MAE_HEADS, parts=None),
    System("DINO", ("timm",), "imagenet", "cls",
           pos_resize="bicubic-offset", sizes=(224,), timm_name="dino",
           wrote=lambda found: found.wrapper in ("teacher", "student")
           or (found.prefix.endswith("backbone.") and not _beside(found, "classifier.")),
           note="DINO names no pooling of its own",
           stored="`teacher`, `backbone.`; `--student`: `student`, `module.backbone.`"),
    System("MoCo v3", ("timm",), "imagenet", "cls", sizes=(224,),
           heads={(192, 12): 12, (384, 12): 12},
           wrote=lambda found: found.prefix.endswith("base_encoder.") or _has_order(found, "rows"),
           stored="`state_dict`, `module.base_encoder.`", differs="ViT-S has 12 heads"),
    System("MAE or MILAN", ("timm",), "imagenet", "mean", sizes=(224,),
           wrote=lambda found: _has_order(found, "columns"), stored="`model`, without a decoder",
           heads=_MAE_HEADS),
    System("DeiT", ("timm",), "imagenet", "cls", sizes=(224, 384), hf_types=("deit",),
           wrote=lambda found: "dist_token" in found.tower
           or (found.wrapper == "model" and "head.weight" in found.tower), timm_name="deit",
           stored="`model`; a distillation token becomes a register",
           may_have=("registers",)),
    System("timm classifier", ("timm",), "half", "cls",
           pos_resize="bicubic-antialias", wrote=_has("head.weight"), stored="flat",
           note="AugReg's and timm's own ViTs take 'half', DeiT's take 'imagenet'",
           parts=None),
    System("timm", ("timm",), "imagenet", "cls", pos_resize="bicubic-antialias", note=_MANY,
           stored="flat, as the backbone files of DINO",
           parts=None),
    System("AugReg", ("augreg-npz", "big-vision-npz"), "half", "cls",
           pos_resize="bilinear-corners", timm_name="augreg",
           stored="Flax arrays (`.npz`), or a folder of timm"),
    System("SimMIM", ("beit",), "imagenet", "mean", sizes=(224,),
           wrote=lambda found: found.inner == "encoder." and "pos_embed" not in found.tower,
           stored="`model`, `encoder.`", differs=_AS_BEIT,
           parts=_BEIT_PARTS),
    System("data2vec", ("beit", "hf-beit"), "imagenet", "mean", sizes=(224,),
           wrote=_wrote_data2vec, hf_types=("data2vec-vision",), stored="`model`, or a folder",
           note="data2vec finetunes with 'half'", differs=_AS_BEIT,
           parts=_BEIT_PARTS),
    System("finetuned BEiT", _BEIT_LAYOUTS, "half", "mean",
           stored="`model`, `module`, or `state_dict`, `backbone.`",
           wrote=lambda found: _in_a_task(found)
           or _has("fc_norm.weight", "pooler.layernorm.weight", "ln2.weight")(found),
           note="the statistics are those of BEiT's own weights; BEiT v2's take 'imagenet'",
           differs=f"{_AS_BEIT}, no final norm",
           parts=("bias",), may_have=("table", "scale")),
    System("CAE", ("beit", "mmpretrain-beit"), "imagenet", "mean", sizes=(224,),
           wrote=_has("pos_embed"), stored="`model`, `encoder.`",
           differs="layer scale, no key bias; ViT-S has 12 heads",
           parts=("table", "scale"), heads={(384, 12): 12}),
    System("BEiT v2", ("beit",), "imagenet", "mean", sizes=(224,), timm_name="beitv2",
           wrote=_has("cls_pt_layers.0.norm1.weight"), parts=_BEIT_PARTS,
           stored="`model`; its layers for the class token are dropped", differs=_AS_BEIT),
    System("BEiT", _BEIT_LAYOUTS, "half", "mean", sizes=(224,), timm_name="beit",
           note="BEiT, mc-BEiT and PeCo write the same names; mc-BEiT takes 'imagenet'",
           stored="`model` or `module`, or a folder", differs=_AS_BEIT,
           parts=_BEIT_PARTS),
    System("mc-BEiT", ("beit",), "imagenet", "mean", wrote=None, stored="`model`",
           differs=_AS_BEIT,
           parts=_BEIT_PARTS),
    System("PeCo", ("beit",), "imagenet", "mean", wrote=None, note=f"PeCo {_UNPUBLISHED}",
           parts=_BEIT_PARTS),
    System("MVP", ("timm", "beit"), "imagenet", "mean", wrote=None, note=f"MVP {_UNPUBLISHED}",
           parts=None),
    System("SplitMask", ("timm", "beit"), "imagenet", "mean", wrote=None,
           note=f"SplitMask {_UNPUBLISHED}",
           parts=None),
    System("SWAG", ("swag",), "imagenet", "cls", pos_resize="bicubic-corners", stored="flat"),
    System("torchvision", ("torchvision",), "imagenet", "cls",
           pos_resize="bicubic-corners", stored="flat"),
    System("Hugging Face ViT", ("hf-vit",), "half", "cls", stored="a folder",
           note="Google's ViTs take 'half', others 'imagenet'", differs="epsilon 1e-12"),
    System("mmpretrain or milan_mm", ("mmpretrain",), "imagenet", "mean", note=_MANY,
           stored="`state_dict`, `backbone.`",
           parts=None, heads={(384, 12): (6, 12)}),
    System("mmsegmentation", ("mmseg",), "imagenet", "cls", note=_MANY,
           stored="`state_dict`, `backbone.`",
           differs="no final norm; a patch bias only where it was asked for",
           may_have=("pre_norm",)),
    System("milan_mm", ("mmpretrain",), "imagenet", "mean", wrote=None, parts=None,
           stored="`state_dict`, `backbone.`, with a record"),
)
# fmt: on
SYSTEMS = {row.name: row for row in _ROWS}
# Of Hugging Face: model -> system; None where the tensors decide.
HF_TYPES = {
    "vit": None,
    "beit": None,
    "clip": None,
    "clip_vision_model": None,
    **{hf_type: row.name for row in _ROWS for hf_type in row.hf_types},
}


def guess_system(found: Found) -> str:
    """The most probable key of `SYSTEMS`."""
    return next(
        row.name
        for row in _ROWS
        if found.layout in row.layouts and row.wrote is not None and row.wrote(found)
    )


def timm_system(name: str) -> str | None:
    """The key of `SYSTEMS` that one of timm's names contains, e.g. 'vit_base_patch16_224.dino'."""
    return next((row.name for row in _ROWS if row.timm_name and row.timm_name in name), None)


_COLUMNS = (
    "system",
    "layout",
    "stored as",
    "differs from MAE's encoder",
    "statistics",
    "pooling",
    "positions",
    "images (px)",
    "uncertain",
)


def _resize_cell(row: System) -> str:
    plain, scaled = row.resize_rule(0), row.resize_rule(4)
    return plain if plain == scaled else f"{plain}; {scaled} with registers"


def markdown_table() -> str:
    """All rows, as docs/weights.md shows them."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS)]
    for row in _ROWS:
        cells = (
            row.name,
            ", ".join(f"`{layout}`" for layout in row.layouts),
            row.stored,
            row.differs,
            row.stats,
            row.pooling,
            _resize_cell(row),
            ", ".join(map(str, row.sizes)),
            row.note or ("the activation, see below" if row.act_note else ""),
        )
        lines.append(tuple(cell or "-" for cell in cells))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(markdown_table(), end="")
