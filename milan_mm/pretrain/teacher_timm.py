"""timm's ViT as a teacher: DINO and other vision-only encoders, and SLIP, whose tower it is."""

from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
from timm.layers import Attention, LayerScale, Mlp, PatchDropout, PatchEmbed, QuickGELU
from timm.layers import LayerNorm as TimmLayerNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.pretrain.teacher import Teacher
from milan_mm.pretrain.tower import Tower, warn_of_random_weights
from milan_mm.registry import MODELS
from milan_mm.weights.finding import Found, find_encoder
from milan_mm.weights.names import ASSETS
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.systems import SYSTEMS, System, guess_system, timm_system

SHIPPED = {"vit_shapes_patch8_96": ASSETS / "shapes_slip.safetensors"}
# Norm before the blocks and eps 1e-5 as in timm's CLIP towers, so that the weights of the tiny CLIP
# fit, from which the SLIP started. The towers of SLIP's authors have neither.
SHIPPED_TOWERS: dict[str, dict[str, Any]] = {
    "vit_shapes_patch8_96": dict(
        img_size=96,
        patch_size=8,
        embed_dim=128,
        depth=5,
        num_heads=4,
        pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        num_classes=0,
    )
}
# Parts of timm's ViTs that mean what those of `PlainViT` mean, and poolings, which come after.
_PARTS = {VisionTransformer, PatchEmbed, PatchDropout, Block, Attention, Mlp, LayerScale, QuickGELU}
_PARTS |= {TimmLayerNorm, nn.LayerNorm, nn.Conv2d, nn.Linear, nn.GELU, nn.Identity, nn.Dropout}
_PARTS |= {nn.Sequential}
_POOLINGS = ("attn_pool.", "fc_norm.")


@MODELS.register_module()
class TimmTeacher(Teacher):
    """A plain `VisionTransformer` of timm; the target is its tokens after the final norm.

    Args:
        model_name: An architecture of timm, e.g. 'vit_base_patch16_224.dino';
            `vit_shapes_patch8_96` is the tower of the tiny SLIP that this package ships.
        pretrained: 'timm' for the weights that timm publishes under that name, a local file
            (safetensors, or a torch file without pickled code) in the layout of timm, DINO or
            SLIP, 'shipped', or 'random' for trials of speed and plumbing.
        input_stats, stats, grid_size, num_target_layers: See `Teacher`.
        projection_dims: Width of the text space that a language-supervised tower projects to after
            the norm: 512 for SLIP (arXiv 2112.12750), whose files hold it as `image_projection`.
            None for towers that project to nothing.

    Raises:
        UserError: When the architecture is not a plain ViT, and when weights are missing or do not
            belong to it.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: str,
        input_stats: dict,
        stats: dict,
        grid_size: tuple[int, int] | None = None,
        num_target_layers: int = 1,
        projection_dims: int | None = None,
    ) -> None:
        tower = fetch_tower(model_name, pretrained, projection_dims)
        super().__init__(model_name, tower, input_stats, stats, grid_size, num_target_layers)


def fetch_tower(model_name: str, pretrained: str, projection_dims: int | None = None) -> Tower:
    """The ViT of a name, with published weights, those of a file, or random ones.

    Args:
        model_name, pretrained, projection_dims: See `TimmTeacher`.

    Raises:
        UserError: See `TimmTeacher`.
    """
    if pretrained == "shipped":
        pretrained = str(SHIPPED.get(model_name, f"no weights of {model_name} are shipped"))
    visual = _create(model_name, pretrained)
    options = _options(model_name, visual)
    source = f"weights '{pretrained}' of teacher '{model_name}'"
    tower = Tower(source, "timm", visual.state_dict(), options)
    tower.num_prefix_positions = 0 if visual.no_embed_class else visual.num_prefix_tokens
    if projection_dims:
        linear = nn.Linear(visual.embed_dim, projection_dims, bias=False)
        tower.projection = linear.weight.detach().T
    if pretrained == "timm" and projection_dims:
        raise UserError(
            f"timm publishes no projection for teacher '{model_name}': remove "
            f"teacher.projection_dims={projection_dims}"
        )
    system = timm_system(model_name) or "timm"
    if pretrained not in ("timm", "random"):
        found = find_encoder(read_checkpoint(pretrained), pretrained, "timm")
        tower.tensors = found.tower
        _check_heads(source, options["arch"], SYSTEMS[guess_system(found)])
        tower.projection = _projection(
            found, pretrained, model_name, visual.embed_dim, projection_dims
        )
        system = timm_system(model_name) or guess_system(found)
    options["pos_resize"] = SYSTEMS[system].resize_rule(options["num_registers"])
    tower.tensors = {n: t for n, t in tower.tensors.items() if not n.startswith(_POOLINGS)}
    if "dist_token" in tower.tensors:
        raise UserError(
            f"{source} come from a distilled ViT, whose distillation token is not supported: use "
            "an undistilled one"
        )
    return tower


def _create(model_name: str, pretrained: str) -> Any:
    if not timm.is_model(model_name) and model_name not in SHIPPED_TOWERS:
        close = timm.list_models(f"*{model_name.split('.')[0]}*")[:3] or ["vit_base_patch16_224"]
        raise UserError(f"teacher '{model_name}' is not an architecture of timm: try {close}")
    if pretrained == "random":
        warn_of_random_weights(model_name)
    elif pretrained != "timm" and not Path(pretrained or "").is_file():
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' are not a file: set "
            "teacher.pretrained to a local file, or to 'timm' for the weights that timm publishes"
        )
    if model_name in SHIPPED_TOWERS:
        return VisionTransformer(**SHIPPED_TOWERS[model_name])
    try:
        return timm.create_model(model_name, pretrained=pretrained == "timm", num_classes=0)
    except Exception as error:  # an unknown tag, no network, a damaged download
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' could not be loaded: {reason} - "
            "give the path of a local file"
        ) from error


def _options(model_name: str, visual: Any) -> dict[str, Any]:
    """Arguments of a `PlainViT` that computes what timm's does.

    Raises:
        UserError: When there are none.
    """
    reason = _unsupported_part(visual)
    if reason:
        raise UserError(
            f"teacher '{model_name}' is not a plain ViT: {reason}; use a VisionTransformer of "
            "timm, e.g. 'vit_base_patch16_224.dino'"
        )
    if isinstance(visual.norm, nn.Identity):
        raise UserError(
            f"teacher '{model_name}' normalises after average pooling, so its tokens have no norm "
            "of their own: use a tower that is pooled by its class token"
        )
    block, embed = visual.blocks[0], visual.patch_embed
    act = "QuickGELU" if isinstance(block.mlp.act, QuickGELU) else "GELU"
    num_heads = block.attn.num_heads
    return dict(
        arch=dict(embed_dims=visual.embed_dim, num_layers=len(visual.blocks), num_heads=num_heads),
        img_size=tuple(embed.img_size),
        patch_size=embed.patch_size[0],
        with_cls_token=visual.has_class_token,
        num_registers=visual.num_reg_tokens,
        norm_eps=block.norm1.eps,
        act=act,
        patch_bias=embed.proj.bias is not None,
        pre_norm=not isinstance(visual.norm_pre, nn.Identity),
        layer_scale=1.0 if isinstance(block.ls1, LayerScale) else None,  # the weights replace it
    )


def _check_heads(source: str, arch: dict[str, int], system: System) -> None:
    """Refuse weights of another number of attention heads, which no tensor shows."""
    heads = system.heads.get((arch["embed_dims"], arch["num_layers"]))
    if isinstance(heads, int) and heads != arch["num_heads"]:
        raise UserError(
            f"{source} look like {system.name}'s, whose ViTs of this size have {heads} attention "
            f"heads; the architecture has {arch['num_heads']}: take weights of another size, e.g. "
            "of a ViT-B"
        )


def _unsupported_part(visual: nn.Module) -> str | None:
    """What of a tower `PlainViT` cannot be, in words."""
    for name, part in visual.named_modules():
        if name.startswith(_POOLINGS):
            continue
        if type(part) not in _PARTS and name != "attn_pool":
            return f"{repr(name) if name else 'the model'} is a {type(part).__name__}"
        if isinstance(part, Attention) and part.qkv.bias is None:
            return f"'{name}' has no bias of queries, keys and values"
        if isinstance(part, Attention) and not isinstance(part.q_norm, nn.Identity):
            return f"'{name}' normalises queries and keys"
        if isinstance(part, Mlp) and part.fc1.weight.shape[0] != 4 * part.fc1.weight.shape[1]:
            return f"'{name}' is not four times as wide as its input"
    return None


def _projection(
    found: Found, path: str, model_name: str, embed_dims: int, projection_dims: int | None
) -> Tensor | None:
    """SLIP's projection to the text space, (D, C), if the file has one.

    Raises:
        UserError: When its shape is not (embed_dims, projection_dims).
    """
    projection = found.state_dict.get(found.prefix.removesuffix("visual.") + "image_projection")
    if projection is None:
        if projection_dims:
            raise UserError(
                f"{path} holds no 'image_projection': it is not a SLIP file, remove "
                f"teacher.projection_dims={projection_dims}"
            )
        return None
    width, dims = projection.shape
    if width != embed_dims:
        raise UserError(
            f"{path} projects from width {width}, teacher '{model_name}' is {embed_dims} wide: set "
            "teacher.model_name to the file's architecture"
        )
    if dims != projection_dims:
        raise UserError(f"{path} projects {width} to {dims}: set teacher.projection_dims={dims}")
    return projection.float()
