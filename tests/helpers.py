"""Small parts that several tests build."""

import json
from pathlib import Path

import open_clip
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from milan_mm.pretrain.decoder import MAEDecoder, PromptingDecoder
from milan_mm.pretrain.masking import split_patches
from milan_mm.pretrain.teacher_clip import model_config

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
    head_cfg: dict = dict(type=f"milan_mm.{head}")
    if head == "PixelTargetHead":
        head_cfg.update(patch_size=8, norm_pix=True)
    if head == "CLIPTargetHead" or mask_generator == "SemanticMaskGenerator":
        head_cfg["teacher"] = teacher_settings()
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
    config = model_config(name)
    config["vision_cfg"] |= dict(layers=2, width=64, head_width=16)
    config["text_cfg"] |= dict(layers=1, width=16, heads=2)
    (folder / f"narrow-{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return f"narrow-{name}"


def save_state(state_dict: dict[str, Tensor], folder: Path, name: str = "weights.pth") -> Path:
    """Write tensors as a torch file and return its path."""
    torch.save(state_dict, folder / name)
    return folder / name


def saved_clip(name: str, folder) -> tuple[dict[str, Tensor], str]:
    """Random weights of an architecture, as a state dict and as a file."""
    state = randomise(open_clip.CLIP(**model_config(name))).state_dict()
    # sharper attention than at initialisation, so that the importance differs between patches
    state = {n: t * 4 if n.endswith("in_proj_weight") else t for n, t in state.items()}
    return state, str(save_state(state, folder))


def forget_runs() -> None:
    """Clear mmengine's globals, which outlive a run: scope, iteration, log files, visualizer."""
    visualizers = (Visualizer, *Visualizer.__subclasses__())
    for manager in (DefaultScope, MessageHub, MMLogger, *visualizers):
        manager._instance_dict.clear()
