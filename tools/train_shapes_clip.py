"""Train the demo's tiny CLIP on the shapes captions with open_clip's own model and loss.

Five stages, so that it fits a CPU: nouns on crops of one object (a quarter of the tokens), first
large plain ones, then all; full captions on crops; whole scenes with half of the patches dropped;
whole scenes. Each stage ends with an atomic save and an evaluation on held-out scenes; the numbers
go into the metadata of the safetensors file. Cost: 22 minutes on 2 shared cores, 3 GiB.

With --slip the shipped CLIP learns on as the tiny SLIP (arXiv 2112.12750): two more views of every
image, and SimCLR's loss between them added to CLIP's. Cost: 6 minutes on one core, 2 GiB.

Examples:
  python tools/train_shapes_clip.py --out milan_mm/assets/shapes_clip.safetensors
  python tools/train_shapes_clip.py --slip --scenes 6000 --threads 1 \\
      --out milan_mm/assets/shapes_slip.safetensors
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import run_interruptible
from milan_mm.run import options

if TYPE_CHECKING:
    import numpy as np
    import open_clip
    from torch import nn

    from milan_mm.shapes.scenes import Scene, SceneObject

# Scene seeds far above those of `tools/make_shapes.py`, so that no demo image was seen in training.
# The SLIP starts at the higher one: its CLIP knows the other scenes.
TRAIN_SEED, SLIP_TRAIN_SEED = 2**40, 2**40 + 2**30


@dataclass(frozen=True)
class Stage:
    """A part of the schedule; image_size in pixels, peak_lr falls by a cosine inside the stage.

    View: "easy" crops show one large plain object and "single" crops one object of any kind, both
    captioned by the noun alone; "crop" cuts around an object of a full scene; "whole" cuts nothing.
    """

    view: str
    image_size: int
    patch_dropout: float
    batch_size: int
    steps: int
    peak_lr: float
    warmup: int


# Nouns first, by measurement: with full captions from the start the zero-shot shape accuracy was at
# most 27 % in 400 steps of 256 crops (chance 17 %); after the first two stages it is 64 % on crops.
STAGES = (
    Stage("easy", 48, 0.0, 64, 400, 1.0e-3, 50),
    Stage("single", 48, 0.0, 64, 800, 1.0e-3, 20),
    Stage("crop", 48, 0.0, 96, 1200, 1.0e-3, 20),
    Stage("whole", 96, 0.5, 96, 500, 7.0e-4, 20),
    Stage("whole", 96, 0.0, 96, 150, 3.0e-4, 10),
)
# With three images for one, the five stages would take an hour: these go on from the shipped CLIP.
SLIP_STAGES = (
    Stage("whole", 96, 0.5, 64, 80, 5.0e-4, 5),
    Stage("whole", 96, 0.0, 48, 20, 2.0e-4, 2),
)
SIMCLR_WEIGHT = 1.0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/shapes_clip.safetensors"), help="file to write"
    )
    parser.add_argument(
        "--slip", action="store_true", help="go on from the shipped CLIP with SimCLR's loss added"
    )
    parser.add_argument("--scenes", type=int, default=12000, help="training scenes to render")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and training (0)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument(
        "--evaluate", action="store_true", help="only evaluate the file named by --out"
    )
    return parser.parse_args(argv)


def crop(
    scene: Scene, anchor: SceneObject, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Cut a window centred near one object; the caption names what is mostly inside."""
    from milan_mm.shapes.captions import describe

    x, y, width, height = anchor.bbox
    limit = len(scene.image) - side
    centres = (x + width / 2, y + height / 2)
    left, top = (min(max(int(c - side / 2 + rng.integers(-6, 7)), 0), limit) for c in centres)
    window = (slice(top, top + side), slice(left, left + side))
    inside = [obj for obj in scene.objects if obj.mask[window].sum() > 0.6 * obj.mask.sum()]
    return scene.image[window], describe(inside, scene.stuff, rng)


def draw(
    scenes: list[Scene], stage: Stage, rng: np.random.Generator
) -> list[tuple[np.ndarray, str]]:
    """Draw the images and freshly worded captions of one batch."""
    from milan_mm.shapes.captions import describe

    chosen = [scenes[i] for i in rng.choice(len(scenes), stage.batch_size, replace=False)]
    if stage.view == "whole":
        return [(scene.image, describe(scene.objects, scene.stuff, rng)) for scene in chosen]
    pairs = []
    for scene in chosen:
        anchor = scene.objects[rng.integers(len(scene.objects))]
        image, caption = crop(scene, anchor, stage.image_size, rng)
        pairs.append((image, caption if stage.view == "crop" else f"a {anchor.shape}"))
    return pairs


def batches(
    scenes: list[Scene], stage: Stage, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Endless batches of mirrored, brightness-jittered uint8 images and their captions."""
    import numpy as np

    while True:
        images, captions = zip(*draw(scenes, stage, rng), strict=True)
        mirrored = np.stack([image[:, :: rng.choice((-1, 1))] for image in images])
        gain = rng.uniform(0.85, 1.15, (len(images), 1, 1, 1)).astype(np.float32)
        yield (mirrored * gain).clip(0, 255).astype(np.uint8), list(captions)


def train_stage(
    model: open_clip.CLIP,
    projector: nn.Module | None,
    stage: Stage,
    scenes: list[Scene],
    rng: np.random.Generator,
    name: str,
) -> None:
    """Run one stage of contrastive training in place; a projector adds SimCLR's loss."""
    import open_clip
    import torch

    from milan_mm.pretrain.clip_training import normalise, train_contrastive
    from milan_mm.shapes.models import encode_texts
    from milan_mm.shapes.views import simclr_loss, view_pairs

    model.train()
    criterion = open_clip.ClipLoss()
    stream = batches(scenes, stage, rng)

    def compute() -> tuple[torch.Tensor, dict[str, float]]:
        images, captions = next(stream)
        image_features = model.encode_image(normalise(images), normalize=True)
        loss = criterion(image_features, encode_texts(model, captions), model.logit_scale.exp())
        losses = {"clip": loss.item()}
        if projector:
            views = view_pairs(torch.from_numpy(images).permute(0, 3, 1, 2))
            pooled = model.visual(normalise(views.permute(0, 2, 3, 1).numpy()))
            simclr = simclr_loss(projector(pooled))
            losses["simclr"] = simclr.item()
            loss = loss + SIMCLR_WEIGHT * simclr
        return loss, losses

    modules = [part for part in (model, projector) if part]
    train_contrastive(
        modules, model.logit_scale, compute, stage.steps, stage.peak_lr, stage.warmup, name
    )


def render(stages: tuple[Stage, ...], seed: int, count: int) -> dict[str, list[Scene]]:
    """Render the scenes of every view that the stages use."""
    from tqdm import tqdm

    from milan_mm.shapes.scenes import render_scene

    views = {stage.view for stage in stages}
    pools: dict[str, list[Scene]] = {}
    if views & {"easy", "single"}:
        pools["single"] = [
            render_scene(seed + index, num_objects=(1, 1))
            for index in tqdm(range(count), desc="render single objects")
        ]
        easy = ("large", "plain")
        pools["easy"] = [s for s in pools["single"] if (s.largest.size, s.largest.texture) == easy]
    if views & {"crop", "whole"}:
        pools["crop"] = pools["whole"] = [
            render_scene(seed + count + index, num_objects=(1, 5))
            for index in tqdm(range(count), desc="render scenes")
        ]
    return pools


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import numpy as np
    import torch

    from milan_mm.pretrain.clip_training import save_clip
    from milan_mm.shapes import models as shapes_models
    from milan_mm.shapes.measures import evaluate
    from milan_mm.shapes.views import make_projector

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    name = shapes_models.SLIP if args.slip else shapes_models.CLIP
    if args.evaluate:
        print(json.dumps(evaluate(name, args.out), indent=2))
        return
    command = f"tools/train_shapes_clip.py{' --slip' if args.slip else ''}"
    command += f" --scenes {args.scenes} --seed {args.seed} --threads {args.threads}"
    rng = np.random.default_rng(args.seed)
    stages = SLIP_STAGES if args.slip else STAGES
    pools = render(stages, SLIP_TRAIN_SEED if args.slip else TRAIN_SEED, args.scenes)
    weights, projector = {}, None
    if args.slip:
        weights, projector = shapes_models.shipped_clip_in_timm(), make_projector(128)
    for number, stage in enumerate(stages, start=1):
        model = shapes_models.create(name, stage.image_size, stage.patch_dropout)
        shapes_models.fill(model, model.state_dict() | weights)
        bar = f"stage {number}/{len(stages)}"
        train_stage(model, projector, stage, pools[stage.view], rng, bar)
        weights = model.state_dict()
        whole = shapes_models.fill(shapes_models.create(name), weights)
        save_clip(whole, name, args.out, command)
        numbers = evaluate(name, args.out)
        print(json.dumps(numbers, indent=2), flush=True)
        save_clip(whole, name, args.out, command, numbers)


if __name__ == "__main__":
    run_interruptible(main)
