"""Golden losses: 20 steps of every family of pretraining recipes give the losses on file.

What leaves the mathematics alone leaves these numbers alone. A change that is meant to alter them
writes them anew, and says in its commit why:

    python -m tests.recipes.test_golden --write [RECIPE ...]

prints old and new losses and writes tests/golden/. Without --write it only compares.

A run is built from its recipe, with the recipe's optimizer in float32 at a tenth of its learning
rate, and takes the real training step on fixed images. Small recipes keep their size and their
teacher. Recipes of ViT-B and ViT-L keep their widths and lose depth: 2 blocks in encoder and
decoder, a narrow random teacher. The ablation adds pixels at that size and a teacher of timm.

Masks come from torch's exponential numbers, which are others where torch has no MKL (ARM, macOS).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor

from milan_mm.configs import load
from milan_mm.models.vit_options import ARCHS
from milan_mm.registry import MODELS
from tests.helpers import narrow_teacher

# One line adds a family: its recipe. Then write its losses.
FAMILIES = (
    "pretrain/milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes",
    "pretrain/mae_vit-mini-p8_1xb64-amp-coslr-12e_shapes",
    "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k",
    "pretrain/milan_vit-large-p16_8xb512-amp-coslr-400e_in1k",
    "pretrain/ablation/row-5-pixel-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k",
    "pretrain/ablation/row-9-slip-prompting-semantic_vit-base-p16_8xb512-amp-coslr-400e_in1k",
)
GOLDEN = Path(__file__).parent / "golden"
NUM_STEPS = 20
TOLERANCE = 1e-6  # relative
# The recipes warm up for longer than 20 steps. At the full rate from the first step on, ViT-L makes
# 1e-3 out of the rounding of another instruction set, at a tenth of it nothing above rounding.
LR_FACTOR = 0.1


def debug_run(recipe: str, folder: Path) -> list[float]:
    """Train a family for `NUM_STEPS` steps.

    Args:
        folder: Takes the architecture of a narrow teacher.

    Returns:
        The loss of every step.
    """
    config = load(recipe)
    batch_size = 4
    if isinstance(config.model.backbone.arch, str):
        batch_size = 2
        shrink_depth(config, folder)
    config.optim_wrapper.type = "OptimWrapper"  # float32
    config.optim_wrapper.optimizer.lr *= LR_FACTOR
    with one_thread(), DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        model.train()
        losses = []
        for step in range(NUM_STEPS):
            with iteration(step):
                images = fixed_images(step, batch_size, config.img_size)
                batch = dict(inputs=images, data_samples=None)
                losses.append(model.train_step(batch, optim_wrapper)["loss"].item())
    return losses


def shrink_depth(config: Config, folder: Path) -> None:
    """Two blocks in encoder, decoder and teacher, in place; widths, grids and targets stay."""
    backbone = config.model.backbone
    backbone.arch = ARCHS[backbone.arch] | dict(num_layers=2)
    config.model.decoder.num_layers = 2
    teacher = config.model.head.get("teacher")
    if teacher:
        narrow = "vit_tiny_patch16_224"  # of timm
        if "CLIP" in teacher.type:
            narrow = narrow_teacher(teacher.model_name, folder)
        teacher.update(model_name=narrow, pretrained="random")


def fixed_images(step: int, batch_size: int, side: int) -> Tensor:
    """(B, 3, H, W) uint8: coarse and fine squares, in integers, which no machine rounds."""
    generator = torch.Generator().manual_seed(step)
    images = torch.zeros(batch_size, 3, side, side, dtype=torch.int64)
    for square in (32, 4):
        shape = (batch_size, 3, side // square, side // square)
        values = torch.randint(128, shape, generator=generator)
        images += values.repeat_interleave(square, dim=2).repeat_interleave(square, dim=3)
    return images.to(torch.uint8)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split by thread, and rounded accordingly."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def iteration(step: int) -> Iterator[None]:
    """Masks are drawn as in the given iteration of a run."""
    hub = MessageHub.get_current_instance()
    hub.update_info("iter", step)
    try:
        yield
    finally:
        hub.runtime_info.pop("iter")


def golden_file(recipe: str) -> Path:
    return GOLDEN / f"{recipe.rsplit('/', 1)[-1]}.json"


def read_golden(recipe: str) -> list[float]:
    return json.loads(golden_file(recipe).read_text())["losses"]


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="other random numbers, no MKL")
@pytest.mark.parametrize(
    "recipe", [pytest.param(r, marks=[] if "mini" in r else pytest.mark.long) for r in FAMILIES]
)
def test_losses_are_those_on_file(recipe, tmp_path):
    assert debug_run(recipe, tmp_path) == pytest.approx(read_golden(recipe), rel=TOLERANCE)


def test_every_file_belongs_to_a_family():
    assert {path.name for path in GOLDEN.glob("*.json")} == {golden_file(r).name for r in FAMILIES}


def main() -> None:
    """Print the losses on file beside those of now, and write the latter if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.recipes.test_golden", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="default: all families")
    parser.add_argument("--write", action="store_true", help="replace the losses on file")
    args = parser.parse_args()
    unknown = [recipe for recipe in args.recipes if recipe not in FAMILIES]
    if unknown:
        parser.error(f"{unknown[0]} is no family: choose from {', '.join(FAMILIES)}")
    MMLogger.get_current_instance().setLevel("ERROR")
    for recipe in args.recipes or FAMILIES:
        old = read_golden(recipe) if golden_file(recipe).is_file() else [float("nan")] * NUM_STEPS
        with tempfile.TemporaryDirectory() as folder:
            new = debug_run(recipe, Path(folder))
        print(f"{recipe}\nstep        old        new  relative difference")
        for step, (before, after) in enumerate(zip(old, new, strict=True), start=1):
            print(f"{step:>4} {before:>10.7f} {after:>10.7f}  {abs(after / before - 1):.1e}")
        if args.write:
            content = dict(recipe=recipe, torch=torch.__version__, losses=new)
            golden_file(recipe).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
