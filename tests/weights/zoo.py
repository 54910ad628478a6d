"""Small models of every system, from implementations that know nothing of this package.

Each entry is the content of a file as the system writes it, and a function that computes what the
system computes: all tokens after the last block, and after the final norm where there is one.
`samples.py` writes them as files, also of the usual sizes.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from mmpretrain.models import BEiTViT
from mmpretrain.models import VisionTransformer as MMViT
from mmseg.models import VisionTransformer as MMSegViT
from open_clip.model import CLIP as OpenCLIP
from timm.layers import RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from tests.helpers import randomise
from tests.models.slow_resize import slow_resize

State = dict[str, Tensor]
D, LAYERS, HEADS = 48, 3, 4  # width, blocks, attention heads
PATCH, SIDE = 8, 4  # pixels along a patch, patches along an image


def set_size(embed_dims: int, num_layers: int, num_heads: int, patch: int, side: int) -> None:
    """Make all further samples of another size; the tests take the tiny one above."""
    global D, LAYERS, HEADS, PATCH, SIDE
    D, LAYERS, HEADS, PATCH, SIDE = embed_dims, num_layers, num_heads, patch, side


def sizes() -> dict[str, Any]:
    """Arguments of timm's classes."""
    return dict(img_size=SIDE * PATCH, patch_size=PATCH, embed_dim=D, depth=LAYERS, num_heads=HEADS)


@dataclass
class Sample:
    """A file of a system.

    Attributes:
        content: What the file holds at its top level.
        tokens: Images (B, 3, H, W) to tokens (B, N, D), by the system's own classes.
        layout, system, stats, pooling: What is to be recognised.
        settings: Of `PlainViT`, those that differ from an encoder of MAE.
        extras: Names that are no part of the encoder, or whose loss no file could tell.
    """

    content: dict[str, Any]
    tokens: Callable[[Tensor], Tensor]
    layout: str
    system: str
    stats: str = "imagenet"
    pooling: str = "cls"
    settings: dict[str, Any] = field(default_factory=dict)
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        model = getattr(self.tokens, "__self__", None)  # once: of a copy, tokens are a function
        if isinstance(model, VisionTransformer):  # which resizes as timm does
            self.tokens = resized_by(self.settings.get("pos_resize", "bicubic"), model)


def resized_by(rule: str, model: VisionTransformer) -> Callable[[Tensor], Tensor]:
    """What a model computes when its position table is resized by a rule, not by timm's."""

    def tokens(imgs: Tensor) -> Tensor:
        other = copy.deepcopy(model)
        grid = (imgs.shape[2] // PATCH, imgs.shape[3] // PATCH)
        other.pos_embed.data = slow_resize(model.pos_embed, (SIDE, SIDE), grid, rule)
        other.patch_embed.grid_size = grid
        return other.forward_features(imgs)

    return tokens


def state_of(sample: Sample) -> State:
    """The entry of the file that holds the tensors."""
    for value in sample.content.values():
        if isinstance(value, dict) and any(isinstance(t, Tensor) for t in value.values()):
            return value
    return sample.content


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state: State, *rules: tuple[str, str]) -> State:
    """Names rewritten by regular expressions that match whole names; the first that fits counts."""
    result = {}
    for name, tensor in state.items():
        fitting = [rule for rule in rules if re.fullmatch(rule[0], name)]
        new = re.sub(*fitting[0], name) if fitting else name
        result[new] = tensor
    return result


def split_qkv(state: State, pattern: str, parts: tuple[str, str, str]) -> State:
    """Queries, keys and values apart; `pattern` has the block's number as its group."""
    result: State = {}
    for name, tensor in state.items():
        match = re.fullmatch(pattern + r"\.(weight|bias)", name)
        if not match:
            result[name] = tensor
            continue
        number, kind = match.groups()
        for part, value in zip(parts, tensor.chunk(3), strict=True):
            result[f"{part.replace('#', number)}.{kind}"] = value.clone()
    return result


def sincos(order: str) -> Tensor:
    """(1, 1+L, D): each half of the channels tells one coordinate, sines before cosines."""
    rows = []
    frequencies = [10000 ** -(i / (D // 4)) for i in range(D // 4)]
    for y in range(SIDE):
        for x in range(SIDE):
            first, second = (y, x) if order == "rows" else (x, y)
            angles = [[c * f for f in frequencies] for c in (first, second)]
            rows.append([f(a) for half in angles for f in (np.sin, np.cos) for a in half])
    return torch.cat([torch.zeros(1, 1, D), torch.tensor(np.array(rows)).float()[None]], dim=1)


# ------------------------------------------------------------------------------- timm and its kin
def timm_vit(**settings) -> VisionTransformer:
    defaults = sizes() | dict(num_classes=0, dynamic_img_size=True)
    return randomise(VisionTransformer(**(defaults | settings))).eval()


def with_table(model: VisionTransformer, table: Tensor) -> VisionTransformer:
    model.pos_embed.data.copy_(table)
    return model


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.1


def decoder(attention: dict[str, int]) -> State:
    """What MAE and MILAN keep of their decoders: width 32, one block."""
    names = {f"attn.{name}": (times * 32, 32) for name, times in attention.items()}
    names |= {"attn.proj": (32, 32), "mlp.fc1": (128, 32), "mlp.fc2": (32, 128)}
    state = {"mask_token": noise(1, 1, 32), "decoder_pos_embed": noise(1, 1 + SIDE**2, 32)}
    for name, shape in names.items():
        state[f"decoder_blocks.0.{name}.weight"] = noise(*shape)
        state[f"decoder_blocks.0.{name}.bias"] = noise(shape[0])
    state["decoder_embed.weight"] = noise(32, D)
    state["decoder_pred.weight"] = noise(20, 32)
    return state


def text_tower() -> State:
    return {
        "positional_embedding": noise(7, 16),
        "text_projection": noise(16, 16),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": noise(9, 16),
        "ln_final.weight": noise(16),
        "transformer.resblocks.0.attn.in_proj_weight": noise(48, 16),
    }


def deit() -> Sample:
    model = timm_vit(num_classes=5)
    content = dict(model=model.state_dict())
    extras = ("head.weight", "head.bias")
    return Sample(content, model.forward_features, "timm", "DeiT", extras=extras)


def deit_distilled() -> Sample:
    """timm's own class, whose distillation token is one token more."""
    model = randomise(
        VisionTransformerDistilled(**sizes(), num_classes=5, dynamic_img_size=True)
    ).eval()
    extras = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
    settings = dict(num_registers=1)
    return Sample(
        dict(model=model.state_dict()),
        model.forward_features,
        "timm",
        "DeiT",
        settings=settings,
        extras=extras,
    )


def deit_iii() -> Sample:
    model = timm_vit(no_embed_class=True, init_values=0.5)
    return Sample(
        model.state_dict(),
        model.forward_features,
        "timm",
        "DeiT III",
        settings=dict(layer_scale=1e-5),
    )


def augreg_torch() -> Sample:
    model = timm_vit(num_classes=5)
    extras = ("head.weight", "head.bias")
    return Sample(
        model.state_dict(),
        model.forward_features,
        "timm",
        "timm classifier",
        "half",
        settings=dict(pos_resize="bicubic-antialias"),
        extras=extras,
    )


def moco_v3() -> Sample:
    model = with_table(timm_vit(num_classes=5), sincos("rows"))
    state = prefixed(model.state_dict(), "module.base_encoder.")
    state |= prefixed(timm_vit().state_dict(), "module.momentum_encoder.")
    state["module.predictor.0.weight"] = noise(5, 5)
    extras = (*(n for n in state if "base_encoder" not in n), "module.base_encoder.head.weight")
    extras += ("module.base_encoder.head.bias",)
    content = dict(state_dict=state, epoch=300)
    return Sample(content, model.forward_features, "timm", "MoCo v3", extras=extras)


def moco_v3_for_deit() -> Sample:
    model = with_table(timm_vit(), sincos("rows"))
    return Sample(dict(model=model.state_dict()), model.forward_features, "timm", "MoCo v3")


def dino_backbone() -> Sample:
    model = timm_vit()
    settings = dict(pos_resize="bicubic-antialias")
    return Sample(model.state_dict(), model.forward_features, "timm", "timm", settings=settings)


def dino_full() -> Sample:
    model, student = timm_vit(), timm_vit()
    teacher = prefixed(model.state_dict(), "backbone.")
    teacher |= {"head.mlp.0.weight": noise(8, D), "head.last_layer.weight_g": noise(9, 1)}
    content = dict(teacher=teacher, student=prefixed(student.state_dict(), "module.backbone."))
    extras = ("head.mlp.0.weight", "head.last_layer.weight_g")
    settings = dict(pos_resize="bicubic-offset")
    return Sample(content, model.forward_features, "timm", "DINO", settings=settings, extras=extras)


def ibot() -> Sample:
    model = timm_vit()
    state = model.state_dict() | dict(masked_embed=noise(1, D))
    extras = ("masked_embed",)
    return Sample(
        dict(state_dict=state),
        model.forward_features,
        "timm",
        "iBOT",
        settings=dict(pos_resize="bicubic-offset"),
        extras=extras,
    )


def maskfeat() -> Sample:
    model = timm_vit()
    model.norm = nn.Identity()
    extra = {
        "mask_token": noise(1, 1, D),
        "pred_head.transforms.0.0.weight": noise(D),
        "pred_head.projections.0.weight": noise(9, D),
    }
    return Sample(
        dict(model_state=model.state_dict() | extra),
        model.forward_features,
        "timm",
        "MaskFeat",
        pooling="mean",
        settings=dict(final_norm=False),
        extras=tuple(extra),
    )


def mae() -> Sample:
    model = with_table(timm_vit(), sincos("columns"))
    extra = decoder(dict(qkv=3))
    state = model.state_dict() | extra
    return Sample(
        dict(model=state, optimizer=dict(state={}), epoch=399),
        model.forward_features,
        "timm",
        "MAE",
        pooling="mean",
        extras=tuple(extra),
    )


def milan() -> Sample:
    model = with_table(timm_vit(), sincos("columns"))
    extra = decoder(dict(q=1, kv=2))
    content = dict(model=model.state_dict() | extra)
    return Sample(
        content, model.forward_features, "timm", "MILAN", pooling="mean", extras=tuple(extra)
    )


def finetuned_mae() -> Sample:
    model = timm_vit(num_classes=5, global_pool="avg")
    extras = ("head.weight", "head.bias")
    return Sample(
        dict(model=model.state_dict()),
        model.forward_features,
        "timm",
        "finetuned ViT",
        pooling="mean",
        settings=dict(final_norm=False),
        extras=extras,
    )


def slip() -> Sample:
    model = timm_vit()
    extra = prefixed(text_tower() | dict(image_projection=noise(D, 16)), "module.")
    state = prefixed(model.state_dict(), "module.visual.") | extra
    return Sample(
        dict(state_dict=state, epoch=25),
        model.forward_features,
        "timm",
        "SLIP",
        extras=tuple(extra),
    )


def timm_clip() -> Sample:
    model = timm_vit(pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5))
    return Sample(
        model.state_dict(),
        model.forward_features,
        "timm",
        "open_clip",
        "clip",
        settings=CLIP_SETTINGS,
    )


def gated() -> dict[str, Any]:
    """Settings of a SwiGLU whose width is not a multiple of D."""
    return dict(act="SwiGLU", mlp_dims=int(2.1 * D))


def packed() -> dict[str, Any]:
    """timm's arguments for it, in one layer."""
    ratio = (2 * gated()["mlp_dims"] + 0.5) / D  # which timm rounds down
    return dict(mlp_ratio=ratio, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU)


def dinov2() -> Sample:
    """Official files: a position for the class token, and none for the registers."""
    model = timm_vit(no_embed_class=True, init_values=0.5, reg_tokens=2)
    state = model.state_dict()
    state["register_tokens"] = state.pop("reg_token")
    row = noise(1, 1, D)
    state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - row
    state["mask_token"] = noise(1, D)
    # a file without the registers is one of a DINOv2 that never had any
    return Sample(
        state,
        model.forward_features,
        "timm",
        "DINOv2",
        settings=dict(layer_scale=1e-5, num_registers=2, pos_resize="bicubic-antialias"),
        extras=("mask_token", "register_tokens"),
    )


def dinov2_timm() -> Sample:
    model = timm_vit(no_embed_class=True, init_values=0.5, reg_tokens=2)
    return Sample(
        model.state_dict(),
        model.forward_features,
        "timm",
        "DINOv2",
        settings=dict(layer_scale=1e-5, num_registers=2, pos_resize="bicubic-antialias"),
        extras=("reg_token",),
    )


def dinov2_giant() -> Sample:
    """Official files of ViT-g name the two layers of its SwiGLU `w12` and `w3`."""
    model = timm_vit(init_values=0.5, **packed())
    state = renamed(
        model.state_dict(),
        (r"(blocks\.\d+\.mlp)\.fc1\.(.*)", r"\1.w12.\2"),
        (r"(blocks\.\d+\.mlp)\.fc2\.(.*)", r"\1.w3.\2"),
    )
    state["mask_token"] = noise(1, D)
    settings = dict(layer_scale=1e-5, pos_resize="bicubic-offset") | gated()
    return Sample(
        state, model.forward_features, "timm", "DINOv2", settings=settings, extras=("mask_token",)
    )


def dinov2_giant_timm() -> Sample:
    model = timm_vit(
        no_embed_class=True,
        init_values=0.5,
        reg_tokens=2,
        **packed(),
    )
    settings = dict(layer_scale=1e-5, num_registers=2, pos_resize="bicubic-antialias") | gated()
    return Sample(
        model.state_dict(),
        model.forward_features,
        "timm",
        "DINOv2",
        settings=settings,
        extras=("reg_token",),
    )


def tips() -> Sample:
    """A second class token without a position, and images in 0-1."""
    model = timm_vit(no_embed_class=True, init_values=0.5, reg_tokens=1)
    state = model.state_dict()
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([noise(1, 1, D), state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - state["pos_embed"][:, :1]
    state["mask_token"] = noise(1, D)
    return Sample(
        state,
        model.forward_features,
        "timm",
        "TIPS",
        "mean 0 0 0 std 1 1 1",
        settings=dict(layer_scale=1e-5, num_registers=1, pos_resize="bilinear-antialias"),
        extras=("mask_token", "register_tokens"),
    )


# ----------------------------------------------------------------------------------- BEiT's family
def timm_beit(**settings) -> Beit:
    defaults = sizes() | dict(num_classes=0, init_values=0.1, use_abs_pos_emb=False)
    model = randomise(Beit(**(defaults | settings)))
    if isinstance(model.norm, nn.Identity) and "fc_norm" not in settings:
        model.norm = randomise(nn.LayerNorm(D, eps=1e-6))  # pretrained: before any pooling
        model.fc_norm = nn.Identity()
    return model.eval()


BEIT_SETTINGS = dict(layer_scale=0.1, with_pos_embed=False, rel_pos_bias_grid=(4, 4))


def beit(width_of_head: int = 20, system: str = "BEiT", stats: str = "half") -> Sample:
    model = timm_beit(use_shared_rel_pos_bias=True)
    extra = {
        "mask_token": noise(1, 1, D),
        "lm_head.weight": noise(width_of_head, D),
        "rel_pos_bias.relative_position_index": model.rel_pos_bias.relative_position_index,
    }
    return Sample(
        dict(model=model.state_dict() | extra),
        model.forward_features,
        "beit",
        system,
        stats,
        "mean",
        BEIT_SETTINGS,
        extras=tuple(extra),
    )


def data2vec() -> Sample:
    return beit(D, "data2vec", "imagenet")


def beit_finetuned() -> Sample:
    model = randomise(Beit(**sizes(), num_classes=5, init_values=0.1, use_rel_pos_bias=True)).eval()
    model.pos_embed = None
    return Sample(
        dict(module=model.state_dict()),
        model.forward_features,
        "beit",
        "finetuned BEiT",
        "half",
        "mean",
        BEIT_SETTINGS | dict(final_norm=False),
        extras=("head.weight", "head.bias"),
    )


def simmim() -> Sample:
    model = timm_beit(use_shared_rel_pos_bias=True)
    extra = {"decoder.0.weight": noise(5, D), "encoder.mask_token": noise(1, 1, D)}
    return Sample(
        dict(model=prefixed(model.state_dict(), "encoder.") | extra),
        model.forward_features,
        "beit",
        "SimMIM",
        "imagenet",
        "mean",
        BEIT_SETTINGS,
        extras=tuple(extra),
    )


def cae() -> Sample:
    model = timm_beit(use_abs_pos_emb=True)
    model.pos_embed.data.copy_(sincos("rows"))
    extra = prefixed(timm_vit().state_dict(), "teacher.")
    extra |= {"encoder_to_decoder.weight": noise(D, D), "mask_token": noise(1, 1, D)}
    return Sample(
        dict(model=prefixed(model.state_dict(), "encoder.") | extra),
        model.forward_features,
        "beit",
        "CAE",
        "imagenet",
        "mean",
        dict(layer_scale=0.1),
        extras=tuple(extra),
    )


# --------------------------------------------------------------------------------- CLIP's towers
def clip_model(quick_gelu: bool) -> OpenCLIP:
    vision = dict(
        image_size=SIDE * PATCH, layers=LAYERS, width=D, head_width=D // HEADS, patch_size=PATCH
    )
    text = dict(context_length=7, vocab_size=9, width=16, heads=2, layers=1)
    return randomise(OpenCLIP(20, vision, text, quick_gelu=quick_gelu)).eval()


def clip_tokens(model: OpenCLIP) -> Callable[[Tensor], Tensor]:
    """Before the projection, all tokens normalised."""

    def tokens(imgs: Tensor) -> Tensor:
        visual: Any = model.visual
        return visual.ln_post(visual.transformer(visual._embeds(imgs)))

    return tokens


CLIP_SETTINGS: dict[str, Any] = dict(
    pre_norm=True, patch_bias=False, norm_eps=1e-5, pos_resize="bicubic-antialias"
)


def open_clip() -> Sample:
    model = clip_model(quick_gelu=False)
    state = prefixed(model.state_dict(), "module.")
    extras = (*(n for n in state if not n.startswith("module.visual.")), "module.visual.proj")
    return Sample(
        dict(state_dict=state, epoch=32),
        clip_tokens(model),
        "clip",
        "open_clip",
        "clip",
        settings=CLIP_SETTINGS,
        extras=extras,
    )


def openai_clip() -> Sample:
    """float16, as OpenAI's file; scalars that only it has."""
    model = clip_model(quick_gelu=True).half().float()
    scalars = dict(input_resolution=SIDE * PATCH, context_length=7, vocab_size=9)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    state |= {name: torch.tensor(value) for name, value in scalars.items()}
    extras = (*(n for n in state if not n.startswith("visual.")), "visual.proj")
    return Sample(
        state,
        clip_tokens(model),
        "clip",
        "CLIP",
        "clip",
        settings=CLIP_SETTINGS | dict(act="QuickGELU"),
        extras=extras,
    )


# ------------------------------------------------------------------------ torchvision and SWAG
def torchvision_vit() -> TorchvisionViT:
    model = TorchvisionViT(SIDE * PATCH, PATCH, LAYERS, HEADS, D, 4 * D, num_classes=5)
    return randomise(model).eval()


def torchvision_tokens(model: TorchvisionViT) -> Callable[[Tensor], Tensor]:
    def tokens(imgs: Tensor) -> Tensor:
        x = model._process_input(imgs)
        return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1))

    return tokens


HEAD = ("heads.head.weight", "heads.head.bias")


def torchvision() -> Sample:
    model = torchvision_vit()
    return Sample(
        model.state_dict(),
        torchvision_tokens(model),
        "torchvision",
        "torchvision",
        settings=dict(pos_resize="bicubic-corners"),
        extras=HEAD,
    )


def swag() -> Sample:
    model, block = torchvision_vit(), r"encoder\.layers\.encoder_layer_(\d+)"
    state = renamed(
        {n: t for n, t in model.state_dict().items() if not n.startswith("heads.")},
        (rf"{block}\.mlp\.0\.(.*)", r"encoder.layers.layer_\1.mlp.linear_1.\2"),
        (rf"{block}\.mlp\.3\.(.*)", r"encoder.layers.layer_\1.mlp.linear_2.\2"),
        (rf"{block}\.(.*)", r"encoder.layers.layer_\1.\2"),
    )
    state["encoder.pos_embedding"] = state["encoder.pos_embedding"].transpose(0, 1).contiguous()
    settings = dict(pos_resize="bicubic-corners")
    return Sample(state, torchvision_tokens(model), "swag", "SWAG", settings=settings)


# --------------------------------------------------------------------------------- mmpretrain
def mm_sizes() -> dict[str, Any]:
    """Arguments of mmpretrain's classes."""
    arch = dict(embed_dims=D, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=4 * D)
    return dict(arch=arch, img_size=SIDE * PATCH, patch_size=PATCH, out_type="raw")


def mm_tokens(model: nn.Module) -> Callable[[Tensor], Tensor]:
    model.eval()  # returns nothing
    return lambda imgs: model(imgs)[0]


def mmpretrain() -> Sample:
    """A MILAN run of mmpretrain keeps its teacher."""
    model = randomise(MMViT(**mm_sizes()))
    extra = {
        "neck.decoder_embed.weight": noise(32, D),
        "target_generator.tokenizer.visual.conv1.weight": noise(8, 3, 8, 8),
        "target_generator.tokenizer.visual.class_embedding": noise(8),
    }
    state = prefixed(model.state_dict(), "backbone.") | extra
    return Sample(
        dict(state_dict=state, meta=dict(epoch=400)),
        mm_tokens(model),
        "mmpretrain",
        "mmpretrain or milan_mm",
        pooling="mean",
        extras=tuple(extra),
    )


def mmpretrain_layer_scale() -> Sample:
    model = randomise(MMViT(**mm_sizes(), layer_scale_init_value=0.3))
    return Sample(
        model.state_dict(),
        mm_tokens(model),
        "mmpretrain",
        "mmpretrain or milan_mm",
        pooling="mean",
        settings=dict(layer_scale=1e-5),
    )


def mmpretrain_beit() -> Sample:
    model = randomise(
        BEiTViT(**mm_sizes(), use_abs_pos_emb=False, use_rel_pos_bias=True, final_norm=True)
    )
    state = model.state_dict()
    extras = tuple(f"backbone.{n}" for n in state if n.endswith("relative_position_index"))
    return Sample(
        dict(state_dict=prefixed(state, "backbone.")),
        mm_tokens(model),
        "mmpretrain-beit",
        "BEiT",
        "half",
        "mean",
        BEIT_SETTINGS,
        extras=extras,
    )


def mmseg() -> Sample:
    """A segmentor, whose ViT has neither a final norm nor a patch bias unless told otherwise."""
    own = dict(embed_dims=D, num_layers=LAYERS, num_heads=HEADS, img_size=SIDE * PATCH)
    model = MMSegViT(
        **own, patch_size=PATCH, output_cls_token=True, norm_cfg=dict(type="LN", eps=1e-6)
    )
    model = randomise(model)
    model.eval()  # returns nothing

    def tokens(imgs: Tensor) -> Tensor:
        featmap, cls_token = model(imgs)[0]
        return torch.cat([cls_token[:, None], featmap.flatten(2).mT], dim=1)

    extra = {"decode_head.conv_seg.weight": noise(5, D), "neck.convs.0.conv.weight": noise(D, D)}
    return Sample(
        dict(state_dict=prefixed(model.state_dict(), "backbone.") | extra, meta=dict(epoch=1)),
        tokens,
        "mmseg",
        "mmsegmentation",
        settings=dict(patch_bias=False, final_norm=False),
        extras=tuple(extra),
    )


# ------------------------------------------------------------------------------- Flax arrays
def flax_arrays(big_vision: bool) -> dict[str, np.ndarray]:
    """Random arrays in the shapes of Flax: kernels (in, out), convolutions HWIO, heads apart."""
    norm, attention, mlp = ("LayerNorm_1", "MultiHeadDotProductAttention_0", "MlpBlock_0")
    if not big_vision:
        norm, attention, mlp = ("LayerNorm_2", "MultiHeadDotProductAttention_1", "MlpBlock_3")
    positions = "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/kernel": (PATCH, PATCH, 3, D),
        "embedding/bias": (D,),
        "cls": (1, 1, D),
        positions: (1, 1 + SIDE**2, D),
        "Transformer/encoder_norm/scale": (D,),
        "Transformer/encoder_norm/bias": (D,),
        "head/kernel": (D, 5),
        "head/bias": (5,),
    }
    for i in range(LAYERS):
        block = f"Transformer/encoderblock_{i}"
        for name in ("LayerNorm_0", norm):
            shapes |= {f"{block}/{name}/scale": (D,), f"{block}/{name}/bias": (D,)}
        for name in ("query", "key", "value"):
            shapes[f"{block}/{attention}/{name}/kernel"] = (D, HEADS, D // HEADS)
            shapes[f"{block}/{attention}/{name}/bias"] = (HEADS, D // HEADS)
        shapes[f"{block}/{attention}/out/kernel"] = (HEADS, D // HEADS, D)
        shapes[f"{block}/{attention}/out/bias"] = (D,)
        for name, (fan_in, fan_out) in dict(Dense_0=(D, 4 * D), Dense_1=(4 * D, D)).items():
            shapes[f"{block}/{mlp}/{name}/kernel"] = (fan_in, fan_out)
            shapes[f"{block}/{mlp}/{name}/bias"] = (fan_out,)
    prefix = "params/" if big_vision else "opt/target/"
    return {prefix + name: noise(*shape).numpy() for name, shape in shapes.items()}


def flax(folder: Path, big_vision: bool) -> Sample:
    """timm reads the same file by its own code."""
    arrays = flax_arrays(big_vision)
    np.savez(folder / "augreg.npz", **arrays)
    model = timm_vit()
    model.load_pretrained(str(folder / "augreg.npz"))
    content = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Sample(
        content,
        model.forward_features,
        "big-vision-npz" if big_vision else "augreg-npz",
        "AugReg",
        "half",
        settings=dict(pos_resize="bilinear-corners"),
        extras=tuple(n for n in arrays if "head/" in n),
    )


# ---------------------------------------------------------------------------------- DINOv3
def timm_dinov3(qkv_bias: bool, plus: bool = False) -> Eva:
    name = f"vit_small{'_plus' if plus else ''}_patch16_dinov3" + ("_qkvb" if qkv_bias else "")
    options = dict(num_classes=0, global_pool="token", **(dict(mlp_ratio=2.0) if plus else {}))
    return randomise(timm.create_model(name, **sizes(), **options)).eval()


DINOV3_SETTINGS = dict(
    layer_scale=1e-5, with_pos_embed=False, num_registers=4, rope_base=100.0, norm_eps=1e-5
)


def dinov3_timm(qkv_bias: bool = True, plus: bool = False) -> Sample:
    model = timm_dinov3(qkv_bias, plus)
    return Sample(
        model.state_dict(),
        model.forward_features,
        "dinov3-timm",
        "DINOv3",
        settings=DINOV3_SETTINGS | (dict(act="SwiGLU", mlp_dims=2 * D) if plus else {}),
    )


def dinov3(plus: bool = False, qkv_bias: bool = True) -> Sample:
    """Official files: one bias, whose keys a mask zeroes in every forward pass.

    Args:
        plus: As in ViT-S+, ViT-H+ and ViT-7B, with a SwiGLU.
        qkv_bias: ViT-7B has none, and another norm for small crops.
    """
    model = timm_dinov3(qkv_bias=qkv_bias, plus=plus)
    state = renamed(
        model.state_dict(),
        (r"(blocks\.\d+\.mlp)\.fc1_g\.(.*)", r"\1.w1.\2"),
        (r"(blocks\.\d+\.mlp)\.fc1_x\.(.*)", r"\1.w2.\2"),
        (r"(blocks\.\d+\.mlp)\.fc2\.(.*)", r"\1.w3.\2") if plus else ("", ""),
        (r"reg_token", "storage_tokens"),
        (r"blocks\.(\d+)\.gamma_(\d)", r"blocks.\1.ls\2.gamma"),
    )
    state["mask_token"] = noise(1, D)
    head_dims = D // HEADS
    exponents = 2 * torch.arange(head_dims // 4) / (head_dims // 2)
    state["rope_embed.periods"] = 100.0**exponents
    for i in range(LAYERS if qkv_bias else 0):
        q, v = (state.pop(f"blocks.{i}.attn.{n}_bias") for n in "qv")
        state[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q, noise(D) + 9, v])
        state[f"blocks.{i}.attn.qkv.bias_mask"] = torch.ones(3 * D).index_fill(
            0, torch.arange(D, 2 * D), 0
        )
    if not qkv_bias:
        state["local_cls_norm.weight"] = noise(D)
    extras = ("mask_token", "rope_embed.periods", "local_cls_norm.weight")
    extras = tuple(n for n in state if n in extras or n.endswith("bias_mask"))
    return Sample(
        state,
        model.forward_features,
        "dinov3",
        "DINOv3",
        settings=DINOV3_SETTINGS | (dict(act="SwiGLU", mlp_dims=2 * D) if plus else {}),
        extras=extras,
    )


# ------------------------------------------------------- without a class token, or with RoPE
SIGLIP_SETTINGS = dict(
    with_cls_token=False, act="GELUTanh", pos_resize="bilinear-corners", mlp_dims=100, pool_dims=100
)


def siglip(prefix: str = "") -> Sample:
    """timm's tower, in open_clip's files under a prefix."""
    model = timm_vit(
        class_token=False, global_pool="map", act_layer="gelu_tanh", mlp_ratio=100.5 / D
    )
    extra = prefixed(text_tower(), "text.") if prefix else {}
    return Sample(
        prefixed(model.state_dict(), prefix) | extra,
        model.forward_features,
        "timm",
        "SigLIP",
        "half",
        "pool",
        settings=SIGLIP_SETTINGS | dict(pool_heads=HEADS),
        extras=tuple(extra),
    )


def aimv2_timm(official: bool = False) -> Sample:
    norm = partial(RmsNorm, eps=1e-5)
    model = timm_vit(
        class_token=False,
        fc_norm=False,
        global_pool="avg",
        qkv_bias=False,
        proj_bias=False,
        act_layer="silu",
        norm_layer=norm,
        embed_norm_layer=norm,
        mlp_layer=SwiGLU,
        mlp_ratio=100.5 / D,
    )
    state = model.state_dict()
    if official:
        state = renamed(
            state,
            (r"patch_embed\.(.*)", r"preprocessor.patchifier.\1"),
            (r"pos_embed", r"preprocessor.pos_embed"),
            (r"norm\.(.*)", r"trunk.post_trunk_norm.\1"),
            (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"trunk.blocks.\1.norm_\2.\3"),
            (r"blocks\.(\d+)\.mlp\.fc1_g\.(.*)", r"trunk.blocks.\1.mlp.fc1.\2"),
            (r"blocks\.(\d+)\.mlp\.fc1_x\.(.*)", r"trunk.blocks.\1.mlp.fc3.\2"),
            (r"blocks\.(.*)", r"trunk.blocks.\1"),
        )
    return Sample(
        state,
        model.forward_features,
        "aimv2" if official else "aimv2-timm",
        "AIMv2",
        "clip",
        "mean",
        settings=gated()
        | dict(
            with_cls_token=False,
            norm="RMS",
            patch_norm=True,
            norm_eps=1e-5,
            pos_resize="bicubic-antialias",
        ),
    )


def ijepa() -> Sample:
    model = timm_vit(class_token=False, fc_norm=False, global_pool="avg")
    state = prefixed(model.state_dict(), "module.")
    content = dict(
        target_encoder=state,
        encoder=prefixed(timm_vit(class_token=False, global_pool="avg").state_dict(), "module."),
        predictor={"module.mask_token": noise(1, 1, 8)},
        epoch=300,
    )
    return Sample(
        content,
        model.forward_features,
        "timm",
        "I-JEPA",
        pooling="mean",
        settings=dict(with_cls_token=False),
    )


def timm_eva(**settings: Any) -> Eva:
    defaults = sizes() | dict(num_classes=0, use_rot_pos_emb=True)
    return randomise(Eva(**(defaults | settings))).eval()


def eva_resized(model: Eva, rule: str) -> Callable[[Tensor], Tensor]:
    """What timm computes from a table that was resized by a rule of another source."""

    def tokens(imgs: Tensor) -> Tensor:
        other = copy.deepcopy(model)
        grid = (imgs.shape[2] // PATCH, imgs.shape[3] // PATCH)
        other.pos_embed.data = slow_resize(model.pos_embed, (SIDE, SIDE), grid, rule)
        other.patch_embed.img_size = imgs.shape[2:]
        if other.rope is not None:
            other.rope.update_feat_shape(list(grid))
        return other.forward_features(imgs)

    return tokens


def pe(
    with_cls_token: bool = True, official: bool = False, pool: bool = True, **options: Any
) -> Sample:
    """timm's class; the numbers of its patches are never scaled, as in Meta's own code.

    Args:
        pool: PE core has a pooling and a norm before it; PE spatial and PE lang have neither.
    """
    model = timm_eva(
        **options,
        global_pool="map" if pool else "",
        use_post_transformer_norm=pool,
        attn_type="rope",
        class_token=with_cls_token,
        use_pre_transformer_norm=True,
        rope_grid_offset=float(with_cls_token),
        rope_grid_indexing="xy",
        attn_pool_num_heads=8,
        attn_pool_mlp_ratio=4.0,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
    )
    state = model.state_dict()
    extras: tuple[str, ...] = ()
    if official:
        block = r"blocks\.(\d+)"
        state = renamed(
            state,
            (r"cls_token", "class_embedding"),
            (r"pos_embed", "positional_embedding"),
            (r"patch_embed\.proj\.weight", "conv1.weight"),
            (r"norm_pre\.(.*)", r"ln_pre.\1"),
            (r"norm\.(.*)", r"ln_post.\1"),
            (rf"{block}\.norm(\d)\.(.*)", r"transformer.resblocks.\1.ln_\2.\3"),
            (rf"{block}\.gamma_(\d)", r"transformer.resblocks.\1.ls_\2.gamma"),
            (rf"{block}\.attn\.qkv\.(.*)", r"transformer.resblocks.\1.attn.in_proj_\2"),
            (rf"{block}\.attn\.proj\.(.*)", r"transformer.resblocks.\1.attn.out_proj.\2"),
            (rf"{block}\.mlp\.fc1\.(.*)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
            (rf"{block}\.mlp\.fc2\.(.*)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
            (r"attn_pool\.latent", "attn_pool.probe"),
            (r"attn_pool\.proj\.(.*)", r"attn_pool.attn.out_proj.\1"),
            (r"attn_pool\.norm\.(.*)", r"attn_pool.layernorm.\1"),
            (r"attn_pool\.mlp\.fc1\.(.*)", r"attn_pool.mlp.c_fc.\1"),
            (r"attn_pool\.mlp\.fc2\.(.*)", r"attn_pool.mlp.c_proj.\1"),
        )
        for kind in ("weight", "bias") if pool else ():
            parts = [state.pop(f"attn_pool.{n}.{kind}") for n in ("q", "kv")]
            state[f"attn_pool.attn.in_proj_{kind}"] = torch.cat(parts)
        state["positional_embedding"] = state["positional_embedding"][0]
        if with_cls_token:
            state["class_embedding"] = state["class_embedding"][0, 0]
        if pool:
            state["proj"], extras = noise(D, 20), ("proj",)
    return Sample(
        state,
        eva_resized(model, "bilinear"),
        ("pe" if pool else "pe-spatial") if official else "timm",
        "PE",
        "half",
        "pool" if pool else "mean",
        settings=dict(
            with_cls_token=with_cls_token,
            pre_norm=True,
            patch_bias=False,
            norm_eps=1e-5,
            rope_base=10000.0,
            rope_kind="pe" if with_cls_token else "pe-patches",
            pos_resize="bilinear",
            pool_heads=8 if pool else 0,
            final_norm=pool,
            layer_scale=1e-5 if options else None,
        ),
        extras=extras,
    )


def eva02(**settings: Any) -> Sample:
    """timm's; that of ViT-B and ViT-L, unless told otherwise."""
    options = dict(qkv_fused=False, swiglu_mlp=True, scale_mlp=True, mlp_ratio=4 * 2 / 3) | settings
    model = timm_eva(ref_feat_shape=(16, 16), **options)
    return Sample(
        model.state_dict(),
        eva_resized(model, "bicubic"),
        "beit" if options["qkv_fused"] else "eva02-timm",
        "EVA-02",
        "clip",
        "mean",
        settings=dict(
            final_norm=False,
            rope_base=10000.0,
            rope_kind="eva02",
            rope_grid=(16, 16),
            act="SwiGLU",
            mlp_dims=int(D * 4 * 2 / 3),
            mlp_norm=bool(options["scale_mlp"]),
            attn_norm=bool(options.get("scale_attn_inner")),
        ),
    )


def eva02_official(prefix: str = "", **settings: Any) -> Sample:
    """As its authors store it: biases apart, other names in the MLP, and sines of the positions.

    Args:
        prefix: 'visual.' is that of EVA-CLIP, beside its text tower.
        settings: Of that of the tiny and small ViTs, or of EVA-CLIP.
    """
    sample = eva02(**settings)
    state = renamed(
        sample.content,
        (r"(blocks\.\d+\.attn)\.(q|v)_proj\.bias", r"\1.\2_bias"),
        (r"(blocks\.\d+\.attn)\.norm\.(.*)", r"\1.inner_attn_ln.\2"),
        (r"(blocks\.\d+\.mlp)\.norm\.(.*)", r"\1.ffn_ln.\2"),
        (r"(blocks\.\d+\.mlp)\.fc1_g\.(.*)", r"\1.w1.\2"),
        (r"(blocks\.\d+\.mlp)\.fc1_x\.(.*)", r"\1.w2.\2"),
        (r"(blocks\.\d+\.mlp)\.fc1\.(.*)", r"\1.w12.\2"),
        (r"(blocks\.\d+\.mlp)\.fc2\.(.*)", r"\1.w3.\2"),
    )
    places = ("", *(f"blocks.{i}.attn." for i in range(LAYERS)))
    tables = {f"{p}rope.freqs_{k}": noise(SIDE**2, 6) for p in places for k in ("cos", "sin")}
    text = prefixed(text_tower(), "text.") if prefix else {}
    return replace(
        sample,
        content=dict(module=prefixed(state | tables, prefix) | text),
        layout="beit" if settings.get("qkv_fused") else "eva02",
        extras=(*prefixed(tables, prefix), *text),
    )


def eva(prefix: str = "") -> Sample:
    """EVA of 2022, its ViT-g: a table of positions, and biases as BEiT's."""
    model = timm_eva(use_rot_pos_emb=False, mlp_ratio=100.5 / D, global_pool="token")
    text = prefixed(text_tower(), "text.") if prefix else {}
    return Sample(
        prefixed(model.state_dict(), prefix) | text,
        eva_resized(model, "bicubic"),
        "beit",
        "EVA",
        "clip",
        "mean",
        settings=dict(mlp_dims=100),
        extras=tuple(text),
    )


# ----------------------------------------------------------------------------- Hugging Face
HF_QKV = tuple(f"encoder.layer.#.attention.attention.{n}" for n in ("query", "key", "value"))
HF_OUTER = (
    (r"(cls_token|mask_token)", r"embeddings.\1"),
    (r"reg_token", r"embeddings.register_tokens"),
    (r"pos_embed", r"embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(.*)", r"embeddings.patch_embeddings.projection.\1"),
    (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"norm\.(.*)", r"layernorm.\1"),
)
HF_OLD_BLOCK = (
    (r"blocks\.(\d+)\.norm1\.(.*)", r"encoder.layer.\1.layernorm_before.\2"),
    (r"blocks\.(\d+)\.norm2\.(.*)", r"encoder.layer.\1.layernorm_after.\2"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"encoder.layer.\1.intermediate.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"encoder.layer.\1.output.dense.\2"),
)


def hf_vit() -> Sample:
    model = timm_vit(norm_layer=partial(nn.LayerNorm, eps=1e-12))
    state = split_qkv(model.state_dict(), r"blocks\.(\d+)\.attn\.qkv", HF_QKV)
    extra = {"pooler.dense.weight": noise(D, D), "pooler.dense.bias": noise(D)}
    return Sample(
        renamed(state, *HF_OUTER, *HF_OLD_BLOCK) | extra,
        model.forward_features,
        "hf-vit",
        "Hugging Face ViT",
        "half",
        settings=dict(norm_eps=1e-12),
        extras=tuple(extra),
    )


def hf_beit() -> Sample:
    """BeitForMaskedImageModeling: the final norm is outside of the encoder."""
    model = timm_beit(use_shared_rel_pos_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-12))
    model.norm.eps = 1e-12
    state = split_qkv(model.state_dict(), r"blocks\.(\d+)\.attn\.qkv", HF_QKV)
    rules = (
        *HF_OUTER,
        *HF_OLD_BLOCK,
        (r"blocks\.(\d+)\.attn\.q_bias", r"encoder.layer.\1.attention.attention.query.bias"),
        (r"blocks\.(\d+)\.attn\.v_bias", r"encoder.layer.\1.attention.attention.value.bias"),
        (r"blocks\.(\d+)\.gamma_(\d)", r"encoder.layer.\1.lambda_\2"),
        (r"rel_pos_bias\.(.*)", r"encoder.relative_position_bias.\1"),
    )
    inside = prefixed(renamed(state, *rules), "beit.")
    inside = renamed(inside, (r"beit\.(layernorm\..*)", r"\1"))
    extra = {"lm_head.weight": noise(9, D)}
    return Sample(
        inside | extra,
        model.forward_features,
        "hf-beit",
        "BEiT",
        "half",
        "mean",
        BEIT_SETTINGS | dict(norm_eps=1e-12),
        extras=tuple(extra),
    )


def hf_dinov2() -> Sample:
    official = dinov2()
    state = {n: t for n, t in official.content.items() if n != "register_tokens"}
    state["reg_token"] = official.content["register_tokens"]
    state = split_qkv(state, r"blocks\.(\d+)\.attn\.qkv", HF_QKV)
    rules = (
        *HF_OUTER,
        (r"blocks\.(\d+)\.ls(\d)\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
        (r"blocks\.(\d+)\.(norm\d|mlp\.fc\d)\.(.*)", r"encoder.layer.\1.\2.\3"),
    )
    return Sample(
        renamed(state, *rules),
        official.tokens,
        "hf-dinov2",
        "DINOv2",
        settings=official.settings,
        extras=("embeddings.mask_token", "embeddings.register_tokens"),
    )


def hf_siglip() -> Sample:
    timms = siglip()
    state = timms.content
    for kind in ("weight", "bias"):
        parts = [state.pop(f"attn_pool.{n}.{kind}") for n in ("q", "kv")]
        state[f"head.attention.in_proj_{kind}"] = torch.cat(parts)
    state["pos_embed"] = state["pos_embed"][0]
    parts = tuple(f"encoder.layers.#.self_attn.{n}_proj" for n in "qkv")
    state = split_qkv(state, r"blocks\.(\d+)\.attn\.qkv", parts)
    rules = (
        (r"pos_embed", "embeddings.position_embedding.weight"),
        (r"patch_embed\.proj\.(.*)", r"embeddings.patch_embedding.\1"),
        (r"norm\.(.*)", r"post_layernorm.\1"),
        (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"encoder.layers.\1.layer_norm\2.\3"),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"encoder.layers.\1.self_attn.out_proj.\2"),
        (r"blocks\.(.*)", r"encoder.layers.\1"),
        (r"attn_pool\.latent", "head.probe"),
        (r"attn_pool\.proj\.(.*)", r"head.attention.out_proj.\1"),
        (r"attn_pool\.norm\.(.*)", r"head.layernorm.\1"),
        (r"attn_pool\.(.*)", r"head.\1"),
    )
    return replace(timms, content=renamed(state, *rules), layout="hf-siglip")


def hf_aimv2() -> Sample:
    timms = aimv2_timm()
    state = timms.content
    state["pos_embed"] = state["pos_embed"][0]
    parts = tuple(f"encoder.layers.#.attention.{n}_proj" for n in "qkv")
    state = split_qkv(state, r"blocks\.(\d+)\.attn\.qkv", parts)
    rules = (
        (r"pos_embed", "embeddings.position_embedding.weight"),
        (r"patch_embed\.proj\.(.*)", r"embeddings.patch_embed.\1"),
        (r"patch_embed\.norm\.(.*)", r"embeddings.rms_norm.\1"),
        (r"norm\.(.*)", r"rms_norm.\1"),
        (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"encoder.layers.\1.rms_norm\2.\3"),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"encoder.layers.\1.attention.out_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc1_g\.(.*)", r"encoder.layers.\1.ffn.gate_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc1_x\.(.*)", r"encoder.layers.\1.ffn.up_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"encoder.layers.\1.ffn.down_proj.\2"),
    )
    return replace(timms, content=renamed(state, *rules), layout="hf-aimv2")


def hf_dinov3() -> Sample:
    timms = dinov3_timm()
    parts = tuple(f"layer.#.attention.{n}_proj" for n in "qkv")
    state = split_qkv(timms.content, r"blocks\.(\d+)\.attn\.qkv", parts)
    rules = (
        (r"cls_token", r"embeddings.cls_token"),
        (r"reg_token", r"embeddings.register_tokens"),
        (r"patch_embed\.proj\.(.*)", r"embeddings.patch_embeddings.\1"),
        (r"blocks\.(\d+)\.attn\.([qv])_bias", r"layer.\1.attention.\2_proj.bias"),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"layer.\1.attention.o_proj.\2"),
        (r"blocks\.(\d+)\.gamma_(\d)", r"layer.\1.layer_scale\2.lambda1"),
        (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"layer.\1.mlp.up_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"layer.\1.mlp.down_proj.\2"),
        (r"blocks\.(\d+)\.(norm\d)\.(.*)", r"layer.\1.\2.\3"),
    )
    return Sample(
        renamed(state, *rules), timms.tokens, "hf-dinov3", "DINOv3", settings=DINOV3_SETTINGS
    )


def hf_clip() -> Sample:
    """CLIPModel: both towers, the two projections and the temperature."""
    model = clip_model(quick_gelu=True)
    visual = {n.removeprefix("visual."): t for n, t in model.state_dict().items() if "visual." in n}
    parts = tuple(f"encoder.layers.#.self_attn.{n}_proj" for n in "qkv")
    block = r"transformer\.resblocks\.(\d+)"
    state = renamed(visual, (rf"{block}\.attn\.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"))
    state = split_qkv(state, r"blocks\.(\d+)\.attn\.qkv", parts)
    rules = (
        (r"class_embedding", r"embeddings.class_embedding"),
        (r"positional_embedding", r"embeddings.position_embedding.weight"),
        (r"conv1\.weight", r"embeddings.patch_embedding.weight"),
        (r"ln_pre\.(.*)", r"pre_layrnorm.\1"),
        (rf"{block}\.ln_(\d)\.(.*)", r"encoder.layers.\1.layer_norm\2.\3"),
        (rf"{block}\.attn\.out_proj\.(.*)", r"encoder.layers.\1.self_attn.out_proj.\2"),
        (rf"{block}\.mlp\.c_fc\.(.*)", r"encoder.layers.\1.mlp.fc1.\2"),
        (rf"{block}\.mlp\.c_proj\.(.*)", r"encoder.layers.\1.mlp.fc2.\2"),
        (r"ln_post\.(.*)", r"post_layernorm.\1"),
    )
    extra = {
        "visual_projection.weight": state.pop("proj").T,
        "text_projection.weight": noise(20, 16),
        "logit_scale": torch.tensor(4.6),
        "text_model.embeddings.token_embedding.weight": noise(9, 16),
        "text_model.encoder.layers.0.layer_norm1.weight": noise(16),
        "vision_model.embeddings.position_ids": torch.arange(1 + SIDE**2)[None],
    }
    return Sample(
        prefixed(renamed(state, *rules), "vision_model.") | extra,
        clip_tokens(model),
        "hf-clip",
        "CLIP",
        "clip",
        settings=CLIP_SETTINGS | dict(act="QuickGELU"),
        extras=tuple(extra),
    )


SYSTEMS: dict[str, Callable[[Path], Sample]] = {
    **{
        function.__name__: lambda folder, function=function: function()  # type: ignore[misc]
        for function in (
            deit, deit_distilled, deit_iii, augreg_torch, moco_v3, moco_v3_for_deit, dino_backbone,
            dino_full, ibot, tips, maskfeat, mae, milan, finetuned_mae, slip, timm_clip, dinov2,
            dinov2_timm, dinov2_giant, dinov2_giant_timm, beit, data2vec, beit_finetuned, simmim,
            cae, open_clip, openai_clip,
            torchvision, swag, mmpretrain, mmpretrain_layer_scale, mmpretrain_beit, dinov3_timm,
            dinov3, hf_vit, hf_beit, hf_dinov2, hf_dinov3, hf_clip, mmseg,
        )
    },
    "hf_siglip": lambda folder: hf_siglip(),
    "hf_aimv2": lambda folder: hf_aimv2(),
    "siglip": lambda folder: siglip(),
    "siglip_open_clip": lambda folder: siglip("visual.trunk."),
    "aimv2": lambda folder: aimv2_timm(official=True),
    "aimv2_timm": lambda folder: aimv2_timm(),
    "ijepa": lambda folder: ijepa(),
    "pe": lambda folder: pe(official=True),
    "pe_timm": lambda folder: pe(),
    "pe_spatial": lambda folder: pe(official=True, pool=False),
    "pe_lang": lambda folder: pe(
        with_cls_token=False, official=True, pool=False, init_values=0.1
    ),
    "pe_timm_no_cls": lambda folder: pe(with_cls_token=False),
    "eva02": lambda folder: eva02(),
    "eva02_small": lambda folder: eva02(qkv_fused=True, scale_mlp=False),
    "eva02_clip": lambda folder: eva02(scale_attn_inner=True),
    "eva02_official": lambda folder: eva02_official(),
    "eva02_official_small": lambda folder: eva02_official(qkv_fused=True, scale_mlp=False),
    "eva02_official_clip": lambda folder: eva02_official("visual.", scale_attn_inner=True),
    "eva": lambda folder: eva(),
    "eva_clip": lambda folder: eva("visual."),
    "eva_open_clip": lambda folder: eva("visual.trunk."),
    "dinov3_7b": lambda folder: dinov3(plus=True, qkv_bias=False),
    "dinov3_plus": lambda folder: dinov3(plus=True),
    "dinov3_timm_plus": lambda folder: dinov3_timm(plus=True),
    "dinov3_timm_no_bias": lambda folder: dinov3_timm(qkv_bias=False),
    "augreg_npz": lambda folder: flax(folder, big_vision=False),
    "big_vision_npz": lambda folder: flax(folder, big_vision=True),
}  # fmt: skip

# Their classes serve one image size only.
ONE_SIZE = {
    "beit", "data2vec", "beit_finetuned", "simmim", "cae", "open_clip", "openai_clip",
    "torchvision", "swag", "mmpretrain", "mmpretrain_layer_scale", "mmpretrain_beit", "hf_beit",
    "hf_clip",
}  # fmt: skip
