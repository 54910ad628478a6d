"""`benchmark.py dense`: PlainViT at 1024 pixels, as the detector uses it, against mmpretrain's.

A step is forward and backward of one image. The peers are `ViTSAM`, which has windows and relative
positions too, and `VisionTransformer`, whose blocks all attend globally. Every pair must first
compute the same function of the same weights.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# here, so that the import does not count as memory of a step
from mmpretrain.models import VisionTransformer, ViTSAM
from torch import nn

from milan_mm.benchmark.contest import (
    Comparison,
    Contest,
    Entry,
    compare,
    default_device,
    default_threads,
    report,
)
from milan_mm.benchmark.matrix_rate import compare_shares, product_entry
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT

PATCH_SIZE, WINDOW_SIZE = 16, 14
BASE = dict(embed_dims=768, num_layers=12, num_heads=12, global_layers=(2, 5, 8, 11))
# Largest relative difference (L2) of outputs and gradients: rounding, through 12 blocks
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Case:
    """Ours against a peer.

    Attributes:
        peer: A key of `_BUILDERS`. rel_pos: Whether ours has relative positions; ViTSAM then too.
        text: For the printed table.
    """

    peer: str
    rel_pos: bool
    text: str


CASES = {
    "windows": Case("vit_sam", False, "against ViTSAM, both without relative positions"),
    "windows-rel": Case("vit_sam", True, "against ViTSAM, both with relative positions"),
    "global": Case("vit", False, "without relative positions, against VisionTransformer"),
    "global-rel": Case("vit", True, "with relative positions, against VisionTransformer"),
}
_OF_CASES = ("cases", "precision", "img_size")  # options that do not apply to --step


def run(args: argparse.Namespace) -> None:
    """Compare in all cases and precisions asked for, or profile a whole training step."""
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: give 1 or more")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads {args.threads}: give 1 or more")
    if args.batch is not None and not args.step:
        raise UserError("--batch is for whole steps: add --step det or --step seg")
    if args.step and (given := [name for name in _OF_CASES if getattr(args, name) is not None]):
        raise UserError(f"--{given[0].replace('_', '-')} is for backbones, not for --step")
    if args.step:
        from benchmarks.dense_step import profile_step  # mmdet and mmseg take seconds

        profile_step(args.step, args.batch, args.rounds, args.threads or default_threads())
        return
    img_size = 1024 if args.img_size is None else args.img_size
    if img_size % PATCH_SIZE or img_size < PATCH_SIZE:
        raise UserError(f"--img-size {img_size} is not a multiple of {PATCH_SIZE} pixels")
    threads = args.threads or default_threads()
    rows: list[Comparison] = []
    for precision in args.precision or ["bfloat16"]:
        for name in args.cases or CASES:
            rows += _compare(CASES[name], precision, img_size, args.rounds, threads)
    report(rows)


def _compare(
    case: Case, precision: str, img_size: int, rounds: int, threads: int
) -> Sequence[Comparison]:
    common = dict(precision=precision, img_size=img_size, arch=BASE)
    peer_rel_pos = case.rel_pos and case.peer == "vit_sam"
    place = f"{__name__}:prepare"
    ours = Entry("ours", place, dict(common, model="ours", rel_pos=case.rel_pos))
    peer = Entry("peer", place, dict(common, model=case.peer, rel_pos=peer_rel_pos))
    text = f"ViT-B/16 at {img_size} px, {precision}, {case.text}"
    print(f"{text}: {rounds} rounds on {threads} threads", file=sys.stderr, flush=True)
    if case.peer == "vit":  # ours has windows: compared without them, timed with them
        same = Entry("ours", place, dict(common, model="ours_global", rel_pos=False))
        with Contest([same, peer], threads) as contest:
            print(check_agreement(contest.results(), precision), file=sys.stderr, flush=True)
    with Contest([ours, peer, product_entry(precision)], threads) as contest:
        if case.peer != "vit":
            print(check_agreement(contest.results(), precision), file=sys.stderr, flush=True)
        flops = contest.flops()  # the warm-up, too
        contest.run(rounds, warm_up=0)
    measured = contest.measured
    rows = compare("dense", text, measured["ours"], measured["peer"])
    names = ("ours", "peer")
    return [*rows, compare_shares("dense", text, names, precision, measured, flops)]


def check_agreement(results: dict[str, dict[str, np.ndarray]], precision: str) -> str:
    """Compare what a step of each returned.

    Returns:
        A line with their differences.

    Raises:
        RuntimeError: When they differ by more than rounding: times would mean nothing.
    """
    ours, peer = results["ours"], results["peer"]
    if ours.keys() != peer.keys():
        raise RuntimeError(f"ours returns {sorted(ours)}, the peer {sorted(peer)}")
    apart = {name: _relative_difference(ours[name], peer[name]) for name in ours}
    worst = max(apart, key=lambda name: apart[name])
    if not apart[worst] <= TOLERANCES[precision]:
        raise RuntimeError(
            f"not compared: '{worst}' of ours and of the peer differ by {apart[worst]:.2g} of its "
            f"length in {precision}, more than {TOLERANCES[precision]:g}"
        )
    return f"  agree: output within {apart['output']:.1e}, '{worst}' within {apart[worst]:.1e}"


def prepare(
    model: str, rel_pos: bool, precision: str, img_size: int, arch: dict
) -> Callable[[], dict[str, np.ndarray]]:
    """Build a backbone and return its training step.

    Args:
        model: A key of `_BUILDERS`.
        rel_pos: With relative positions.
        precision: 'float32' or 'bfloat16', by autocast.
        img_size: Side of the image in pixels.
        arch: Like `BASE`.

    Returns:
        The step: output, and gradients of some weights, with equal names in all models.
    """
    device = default_device()
    backbone = _BUILDERS[model](rel_pos, img_size, arch).to(device)
    fill(backbone)
    backbone.train()
    imgs = torch.randn(1, 3, img_size, img_size, generator=torch.Generator().manual_seed(0))
    imgs = imgs.to(device)
    watched = ["patch_embed.projection.weight", "layers.0.attn.qkv.weight"]
    if rel_pos:
        last = arch["global_layers"][-1]
        watched += ["layers.0.attn.rel_pos_w", f"layers.{last}.attn.rel_pos_h"]

    def step() -> dict[str, np.ndarray]:
        backbone.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            (out,) = backbone(imgs)
        out.float().square().mean().backward()
        shown: dict[str, Any] = dict(output=out.detach())
        shown |= {name: backbone.get_parameter(name).grad for name in watched}
        return {name: tensor.float().cpu().numpy() for name, tensor in shown.items()}

    return step


def fill(model: nn.Module) -> None:
    """Give every parameter random values that depend only on its name and number of elements."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            values = torch.randn(tensor.numel(), generator=generator)
            is_matrix = tensor.ndim > 1 and name.endswith("weight")
            # activations of about 1, and a bias that shows
            values *= tensor[0].numel() ** -0.5 if is_matrix else 0.2
            is_norm = tensor.ndim == 1 and name.endswith("weight")
            tensor.copy_((values + is_norm).view_as(tensor))


def _ours(rel_pos: bool, img_size: int, arch: dict, window_size: int = WINDOW_SIZE) -> nn.Module:
    plain_arch = {key: arch[key] for key in ("embed_dims", "num_layers", "num_heads")}
    return PlainViT(
        plain_arch,
        img_size=img_size,
        patch_size=PATCH_SIZE,
        with_cls_token=False,
        final_norm=False,
        window_size=window_size,
        global_layers=arch["global_layers"],
        rel_pos_grid=img_size // PATCH_SIZE if rel_pos else None,
    )


def _ours_global(rel_pos: bool, img_size: int, arch: dict) -> nn.Module:
    return _ours(rel_pos, img_size, arch, window_size=0)


def _vit_sam(rel_pos: bool, img_size: int, arch: dict) -> nn.Module:
    return ViTSAM(
        _mmpretrain_arch(arch) | dict(global_attn_indexes=list(arch["global_layers"])),
        img_size=img_size,
        patch_size=PATCH_SIZE,
        out_channels=0,
        use_rel_pos=rel_pos,
        window_size=WINDOW_SIZE,
        norm_cfg=dict(type="LN", eps=1e-6),
    )


def _vit(rel_pos: bool, img_size: int, arch: dict) -> nn.Module:
    if rel_pos:
        raise UserError("mmpretrain's VisionTransformer has no relative positions")
    return VisionTransformer(
        _mmpretrain_arch(arch),
        img_size=img_size,
        patch_size=PATCH_SIZE,
        with_cls_token=False,
        final_norm=False,
        out_type="featmap",
        norm_cfg=dict(type="LN", eps=1e-6),
    )


def _mmpretrain_arch(arch: dict) -> dict:
    sizes = {key: arch[key] for key in ("embed_dims", "num_layers", "num_heads")}
    return sizes | dict(feedforward_channels=4 * arch["embed_dims"])


def _relative_difference(ours: np.ndarray, peer: np.ndarray) -> float:
    return float(np.linalg.norm(ours.ravel() - peer.ravel()) / np.linalg.norm(peer.ravel()))


_BUILDERS = dict(ours=_ours, ours_global=_ours_global, vit_sam=_vit_sam, vit=_vit)
