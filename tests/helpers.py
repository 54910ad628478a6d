"""Small parts that several tests build."""

import copy
import functools
import json
from pathlib import Path
from unittest import mock

import open_clip
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from milan_mm.pretrain.decoder import MAEDecoder, PromptingDecoder
from milan_mm.pretrain.masking import split_patches
from milan_mm.registry import MODELS
from milan_mm.vit import PlainViT

STATS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])  # RGB, 0-255
TINY_ARCH = dict(embed_dims=48, num_layers=3, num_heads=4)


def tiny_vit(**settings) -> PlainViT:
    """A PlainViT of 3 blocks on 4x4 patches of 8 pixels, with every parameter random."""
    return randomise(PlainViT(**(dict(arch=TINY_ARCH, img_size=32, patch_size=8) | settings)))


def randomise(module: nn.Module) -> nn.Module:
    """Fill what a constructor leaves at 0 or 1 (biases, norms, tokens), so that it matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1 or not parameter.abs().sum():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def tiny_decoder(kind: type, grid: tuple[int, int], **settings) -> PromptingDecoder | MAEDecoder:
    """A decoder of 2 blocks of width 32 behind an encoder of width 48."""
    sizes = dict(
        embed_dims=48,
        grid_size=grid,
        target_dims=20,
        decoder_embed_dims=32,
        num_layers=2,
        num_heads=4,
    )
    return randomise(kind(**(sizes | settings)))


def random_split(batch_size: int, num_patches: int, num_keep: int) -> tuple[Tensor, Tensor]:
    """ids_keep (B, K) and ids_mask (B, M) of a uniform draw."""
    uniform = torch.ones(batch_size, num_patches)
    noise = -torch.empty(batch_size, num_patches).exponential_().log()
    return split_patches(uniform, noise, num_keep)


def teacher_settings(pretrained: str = "random", **settings) -> dict:
    """Arguments of `CLIPTeacher` for the tiny architecture that the package ships."""
    defaults = dict(model_name="shapes-clip", pretrained=pretrained, input_stats=STATS, stats=STATS)
    return defaults | settings


def milan_config(
    mask_generator: str = "SemanticMaskGenerator",
    decoder: str = "PromptingDecoder",
    head: str = "CLIPTargetHead",
    **settings,
) -> dict:
    """A MILAN of 2 narrow blocks on 96-pixel images with patches of 8, as the demo cuts them."""
    if head == "CLIPTargetHead":
        head_cfg = dict(type="milan_mm.CLIPTargetHead", teacher=teacher_settings())
    else:
        head_cfg = dict(type="milan_mm.PixelTargetHead", patch_size=8, norm_pix=True)
    config = dict(
        type="milan_mm.MILAN",
        data_preprocessor=dict(type="mmpretrain.SelfSupDataPreprocessor", to_rgb=True, **STATS),
        backbone=dict(
            type="milan_mm.PlainViT",
            arch=dict(embed_dims=48, num_layers=2, num_heads=4),
            img_size=96,
            patch_size=8,
            fixed_pos_embed=True,
        ),
        mask_generator=dict(type=f"milan_mm.{mask_generator}", mask_ratio=0.75),
        decoder=dict(
            type=f"milan_mm.{decoder}",
            embed_dims=48,
            grid_size=(12, 12),
            target_dims=128 if head == "CLIPTargetHead" else 192,
            decoder_embed_dims=32,
            num_layers=2,
            num_heads=4,
        ),
        head=head_cfg,
    )
    return config | settings


def narrow_teacher(name: str, folder: Path) -> str:
    """A teacher with the patches and the target width of `name`, but cheap."""
    config = open_clip.get_model_config(name)
    config["vision_cfg"] |= dict(layers=2, width=64, head_width=16)
    config["text_cfg"] |= dict(layers=1, width=16, heads=2)
    (folder / f"narrow-{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return f"narrow-{name}"


def build_without_memory(config: Config) -> nn.Module:
    """The model of a recipe at full size on the meta device, the teacher's weights left out."""
    config = copy.deepcopy(config)
    head = config.model.get("head") or {}
    if "teacher" in head:
        head.teacher.pretrained = "random"
    create_on_meta = functools.partial(open_clip.create_model, device="meta")
    with (
        mock.patch.object(open_clip, "create_model", create_on_meta),
        DefaultScope.overwrite_default_scope(config.default_scope),
        torch.device("meta"),
    ):
        return MODELS.build(config.model)


def save_state(state_dict: dict[str, Tensor], folder: Path, name: str = "weights.pth") -> Path:
    """Write tensors as a torch file and return its path."""
    torch.save(state_dict, folder / name)
    return folder / name
