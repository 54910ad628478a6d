"""timm's ViT as a teacher: DINO and other vision-only encoders, and SLIP, whose tower it is."""

from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from timm.layers import Attention, resample_abs_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.pretrain.teacher import ASSETS, Teacher, check_layer_counts, class_attention
from milan_mm.registry import MODELS
from milan_mm.weights.finding import WRAPPERS
from milan_mm.weights.layouts import TIMM
from milan_mm.weights.layouts.table import matches
from milan_mm.weights.reading import read_checkpoint

SHIPPED = {"vit_shapes_patch8_96": ASSETS / "shapes_slip.safetensors"}
# Parts of a file that a teacher has no use for; not the distillation token, which has a position.
FOREIGN = (*(name for name in TIMM.extras if name != "dist_token"), "fc_norm.*")


@MODELS.register_module()
class TimmTeacher(Teacher):
    """A plain `VisionTransformer` of timm; the target is its tokens after the final norm.

    Args:
        model_name: An architecture of timm, e.g. 'vit_base_patch16_224.dino';
            `vit_shapes_patch8_96` is the tower of the tiny SLIP that this package ships.
        pretrained: 'timm' for the weights that timm publishes under that name, a local file
            (safetensors, or a torch file without pickled code) in the layout of timm, DINO or
            SLIP, 'shipped', or 'random' for trials of speed and plumbing.
        input_stats: See `Teacher`.
        stats: See `Teacher`.
        grid_size: (h, w) of the student's patches; see `CLIPTeacher`.
        num_target_layers: The target is the mean over that many last layers, each after the norm.
        projection_dims: Width of the text space that a language-supervised tower projects to after
            the norm: 512 for SLIP (arXiv 2112.12750), whose files hold it as `image_projection`.
            None for towers that project to nothing.

    Raises:
        UserError: When weights are missing or do not belong to the architecture.
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
        if pretrained == "shipped":
            pretrained = str(SHIPPED.get(model_name, f"no weights of {model_name} are shipped"))
        visual: Any = _create_tower(model_name, pretrained, grid_size)
        check_layer_counts(model_name, len(visual.blocks), num_target_layers)
        super().__init__(
            input_stats,
            stats,
            image_size=tuple(visual.patch_embed.img_size),
            grid_size=tuple(visual.patch_embed.grid_size),
            target_dims=projection_dims or visual.embed_dim,
            with_cls_token=visual.has_class_token,
        )
        self.visual: Any = visual
        self.num_target_layers = num_target_layers
        self.projection: nn.Module = nn.Identity()
        if projection_dims:
            self.projection = nn.Linear(visual.embed_dim, projection_dims, bias=False)
        if pretrained not in ("timm", "random"):
            self._load(model_name, pretrained)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        return self.visual.blocks

    def look(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Teacher.forward`."""
        visual = self.visual
        num_extra = visual.num_prefix_tokens  # class token, registers
        maps = self._maps(imgs, max(self.num_target_layers, 2))
        last = [visual.norm(x) for x in maps[-self.num_target_layers :]]
        features = self.projection(torch.stack(last).mean(dim=0))  # (B, N, C)
        patches = features[:, num_extra:]
        if not self.with_cls_token:
            return patches, None
        importance = _class_attention(self.blocks[-1], maps[-2], num_extra)
        return torch.cat([features[:, :1], patches], dim=1), importance

    def attend(self, imgs: Tensor) -> Tensor:
        """See `Teacher.importance`."""
        (x,) = self._maps(imgs, [len(self.blocks) - 2])
        return _class_attention(self.blocks[-1], x, self.visual.num_prefix_tokens)

    def _maps(self, imgs: Tensor, indices: int | list[int]) -> list[Tensor]:
        """(B, N, D) after each of these blocks, or that many last ones; no later block runs."""
        maps = self.visual.forward_intermediates(
            imgs,
            indices=indices,
            return_prefix_tokens=True,
            output_fmt="NLC",
            stop_early=True,
            intermediates_only=True,
        )
        if not self.visual.num_prefix_tokens:
            return maps
        return [torch.cat([extra, patches], dim=1) for patches, extra in maps]

    def _load(self, model_name: str, path: str) -> None:
        """Fill tower and projection from a local file, strictly; only the grid may differ."""
        state_dict, prefix = _find_tower(path, read_checkpoint(path))
        tower = {
            name.removeprefix(prefix): tensor
            for name, tensor in state_dict.items()
            if name.startswith(prefix)
        }
        tower = {n: t for n, t in tower.items() if not any(matches(p, n) for p in FOREIGN)}
        visual = self.visual
        if "pos_embed" in tower:
            tower["pos_embed"] = resample_abs_pos_embed(
                tower["pos_embed"],
                new_size=list(self.grid_size),
                num_prefix_tokens=0 if visual.no_embed_class else visual.num_prefix_tokens,
            )
        projection = state_dict.get(prefix.removesuffix("visual.") + "image_projection")
        own = getattr(self.projection, "weight", None)
        if projection is None and own is not None:
            raise UserError(
                f"{path} holds no 'image_projection': it is no SLIP file, remove "
                f"teacher.projection_dims={len(own)}"
            )
        if projection is not None and len(projection) != visual.embed_dim:
            raise UserError(
                f"{path} projects from width {len(projection)}, teacher '{model_name}' is "
                f"{visual.embed_dim} wide: set teacher.model_name to the file's architecture"
            )
        if projection is not None and (own is None or own.shape != projection.T.shape):
            raise UserError(
                f"{path} projects {projection.shape[0]} to {projection.shape[1]}: set "
                f"teacher.projection_dims={projection.shape[1]}"
            )
        try:
            visual.load_state_dict(tower)
        except RuntimeError as error:
            reason = shorten(str(error), 300, placeholder=" ...")
            raise UserError(f"{path} does not fit the teacher: {reason}") from None
        if projection is not None:
            self.projection.load_state_dict(dict(weight=projection.T))


def _class_attention(block: Any, x: Tensor, num_extra: int) -> Tensor:
    """(B, L) float32 from a block of timm and its input x (B, N, D)."""
    attn = block.attn
    x = block.norm1(x)
    w_q, w_k, _ = attn.qkv.weight.chunk(3)
    b_q, b_k, _ = (None,) * 3 if attn.qkv.bias is None else attn.qkv.bias.chunk(3)
    q = F.linear(x[:, :1], w_q, b_q).unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
    k = F.linear(x, w_k, b_k).unflatten(2, (attn.num_heads, -1)).transpose(1, 2)  # (B, A, N, d)
    return class_attention(attn.q_norm(q), attn.k_norm(k), num_extra)


def _create_tower(
    model_name: str, pretrained: str, grid_size: tuple[int, int] | None
) -> VisionTransformer:
    if not timm.is_model(model_name):
        close = timm.list_models(f"*{model_name.split('.')[0]}*")[:3] or ["vit_base_patch16_224"]
        raise UserError(f"teacher '{model_name}' is no architecture of timm: try {close}")
    if pretrained == "random":
        print_log(f"teacher {model_name} has RANDOM weights: good for trials only", "current", 30)
    elif pretrained != "timm" and not Path(pretrained or "").is_file():
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' are no file: set teacher.pretrained "
            "to a local file, or to 'timm' for the weights that timm publishes"
        )
    try:
        tower: Any = timm.create_model(model_name, pretrained=pretrained == "timm", num_classes=0)
    except Exception as error:  # an unknown tag, no network, a damaged download
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' could not be loaded: {reason} - "
            "give the path of a local file"
        ) from error
    _check_tower(model_name, tower)
    if grid_size:
        side = tower.patch_embed.patch_size
        tower.set_input_size((grid_size[0] * side[0], grid_size[1] * side[1]))
    return tower


def _check_tower(model_name: str, tower: Any) -> None:
    plain = isinstance(tower, VisionTransformer) and isinstance(tower.blocks[-1], Block)
    if not plain or not isinstance(tower.blocks[-1].attn, Attention):
        raise UserError(
            f"teacher '{model_name}' is no plain ViT whose class attention could be read: use a "
            "VisionTransformer of timm, e.g. 'vit_base_patch16_224.dino'"
        )
    if isinstance(tower.norm, nn.Identity):
        raise UserError(
            f"teacher '{model_name}' normalises after average pooling, so its tokens have no norm "
            "of their own: use a tower that is pooled by its class token"
        )


def _find_tower(path: str, checkpoint: dict) -> tuple[dict[str, Tensor], str]:
    """The state dict that holds a tower in timm's naming, and the prefix of its names.

    Raises:
        UserError: When there is none, or more than one.
    """
    for wrapper in WRAPPERS:
        if isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
            break
    found = [prefix for prefix in TIMM.prefixes if f"{prefix}patch_embed.proj.weight" in checkpoint]
    if len(found) != 1:
        names = ", ".join(map(str, list(checkpoint)[:3]))
        raise UserError(
            f"{path} holds {len(found)} image towers in timm's naming ('patch_embed.proj.weight'), "
            f"exactly one is needed; its first names are: {names}"
        )
    return checkpoint, found[0]
