"""`benchmark.py flops`: the FLOPs of each part of a step, and the claim about the decoder.

Models live on the meta device, which computes shapes but no numbers.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from milan_mm.benchmark.flop_count import count_flops
from milan_mm.configs import load
from milan_mm.run.building import build_without_memory
from milan_mm.run.silence import silence

RECIPES = {
    "ViT-B/16": "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k",
    "ViT-L/16": "pretrain/milan_vit-large-p16_8xb512-amp-coslr-400e_in1k",
}
CLAIM = "20 %"  # less computation than MAE's decoder, arXiv 2208.06049


def run(args: argparse.Namespace) -> None:
    """Print the tables; no arguments are used."""
    del args
    print("GFLOP per image: forward, and forward with backward\n")
    print(f"{'':<10} {'':<22} {'forward':>9} {'with backward':>14}")
    ratios = {}
    for name, recipe in RECIPES.items():
        config = load(recipe)
        counts = {kind: step_flops(config, kind) for kind in ("PromptingDecoder", "MAEDecoder")}
        milan, mae = counts.values()
        rows = {
            "teacher": milan["teacher"],
            "encoder": milan["encoder"],
            "prompting decoder": milan["decoder"],
            "MAE's decoder": mae["decoder"],
            "step, prompting": _sum(milan),
            "step, MAE's decoder": _sum(mae),
            "  without the teacher": _sum({k: v for k, v in mae.items() if k != "teacher"}),
        }
        for part, (forward, both) in rows.items():
            print(f"{name:<10} {part:<22} {forward / 1e9:>9.2f} {both / 1e9:>14.2f}")
        ratios[name] = [
            1 - milan["decoder"][0] / mae["decoder"][0],
            1 - _student(milan) / _student(mae),
            1 - _sum(milan)[1] / _sum(mae)[1],
        ]
    print(f"\nless with the prompting decoder; the paper claims {CLAIM}")
    print(f"{'':<10} {'decoder':>9} {'encoder+decoder':>16} {'whole step':>11}")
    for name, (decoder, student, step) in ratios.items():
        print(f"{name:<10} {decoder:>9.1%} {student:>16.1%} {step:>11.1%}")


def step_flops(config: Config, decoder: str) -> dict[str, tuple[int, int]]:
    """FLOPs of the parts of a training step with one image.

    Args:
        config: Of a MILAN with a CLIP teacher. decoder: Class that replaces the config's.

    Returns:
        part -> (forward, forward and backward). The teacher has no backward pass.
    """
    config = copy.deepcopy(config)
    config.model.decoder.type = f"milan_mm.{decoder}"
    with silence():
        model: Any = build_without_memory(config)
    num_patches = model.backbone.num_patches
    num_keep = model.mask_generator.num_keep(num_patches)
    imgs = torch.empty(1, 3, config.img_size, config.img_size, device="meta")
    ids_keep = torch.empty(1, num_keep, dtype=torch.int64, device="meta")
    ids_mask = torch.empty(1, num_patches - num_keep, dtype=torch.int64, device="meta")
    kept = torch.empty(1, num_keep, model.backbone.embed_dims, device="meta", requires_grad=True)
    latent = torch.empty(
        1, 1 + num_keep, model.backbone.embed_dims, device="meta", requires_grad=True
    )
    with torch.no_grad():
        teacher = count_flops(model.head.teacher.module, imgs)
    return dict(
        teacher=(teacher, teacher),
        embedding=count_with_backward(model.backbone.embed, imgs),
        encoder=count_with_backward(model.backbone.encode, kept),
        decoder=count_with_backward(model.decoder, latent, ids_keep, ids_mask),
    )


def resize(config: Config, img_size: int) -> None:
    """Let a MILAN, its decoder and its teacher work on images of another side, in place."""
    side = img_size // config.model.backbone.patch_size
    config.img_size = config.model.backbone.img_size = img_size
    config.model.decoder.grid_size = (side, side)
    config.model.head.teacher.grid_size = (side, side)


def count_with_backward(function: Callable[..., Tensor], *args: Any) -> tuple[int, int]:
    """FLOPs of a call alone, and of the call with its backward pass."""
    return count_flops(function, *args), count_flops(lambda: function(*args).sum().backward())


def _sum(counts: dict[str, tuple[int, int]]) -> tuple[int, int]:
    forward, both = zip(*counts.values(), strict=True)
    return sum(forward), sum(both)


def _student(counts: dict[str, tuple[int, int]]) -> int:
    return _sum({part: n for part, n in counts.items() if part != "teacher"})[1]
