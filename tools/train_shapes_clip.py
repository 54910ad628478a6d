"""Train the demo's tiny CLIP on the shapes captions with open_clip's own model and loss.

Five stages, so that it fits a CPU: nouns on crops of one object (a quarter of the tokens), first
large plain ones, then all; full captions on crops; whole scenes with half of the patches dropped;
whole scenes. Each stage ends with an evaluation on held-out scenes and an atomic save; the numbers
go into the metadata of the safetensors file. Cost: 22 minutes on 2 shared cores, 3 GiB.
Run: python tools/train_shapes_clip.py --out milan_mm/assets/shapes_clip.safetensors
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import open_clip
    from torch import Tensor

    from milan_mm.data.shapes import Scene, SceneObject

# The paper's code feeds the teacher ImageNet-normalised images; the tiny CLIP learns on the same.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Scene seeds far above those of `tools/make_shapes.py`, so that no demo image was seen in training.
TRAIN_SEED, HELD_OUT_SEED = 2**40, 2**41


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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("work_dirs/shapes_clip.safetensors"))
    parser.add_argument("--scenes", type=int, default=12000, help="training scenes to render")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument(
        "--evaluate", action="store_true", help="only evaluate the file named by --out"
    )
    return parser.parse_args()


def normalise(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 RGB, 0-255 -> (B, 3, H, W) float32, ImageNet-normalised."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def encode_texts(model: open_clip.CLIP, captions: list[str]) -> Tensor:
    """Normalised text features, (B, C) float32.

    open_clip's `encode_text` without its padding: causal attention makes the result the same, and
    most captions fill a third of the context.
    """
    import torch
    from torch.nn import functional as F

    from milan_mm.data.shapes_captions import encode_caption

    tokens = torch.stack([torch.from_numpy(encode_caption(text)) for text in captions])
    ends = tokens.argmax(1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x)), ends]
    return F.normalize(x @ model.text_projection, dim=-1)


def crop(
    scene: Scene, anchor: SceneObject, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Cut a window centred near one object; the caption names what is mostly inside."""
    from milan_mm.data.shapes_captions import describe

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
    from milan_mm.data.shapes_captions import describe

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
) -> Iterator[tuple[Tensor, list[str]]]:
    """Endless batches of mirrored, brightness-jittered images and their captions."""
    import numpy as np

    while True:
        images, captions = zip(*draw(scenes, stage, rng), strict=True)
        mirrored = np.stack([image[:, :: rng.choice((-1, 1))] for image in images])
        gain = rng.uniform(0.85, 1.15, (len(images), 1, 1, 1)).astype(np.float32)
        yield normalise((mirrored * gain).clip(0, 255).astype(np.uint8)), list(captions)


def train_stage(
    model: open_clip.CLIP, stage: Stage, scenes: list[Scene], rng: np.random.Generator, name: str
) -> None:
    """Run one stage of contrastive training in place."""
    import math

    import open_clip
    import torch
    from tqdm import tqdm

    model.train()
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.peak_lr, betas=(0.9, 0.98))
    criterion = open_clip.ClipLoss()
    stream = batches(scenes, stage, rng)
    bar = tqdm(range(stage.steps), desc=name, mininterval=5)
    for step in bar:
        progress = (step - stage.warmup) / (stage.steps - stage.warmup)
        factor = (
            (step + 1) / stage.warmup
            if step < stage.warmup
            else math.cos(progress * math.pi / 2) ** 2
        )
        for group in optimizer.param_groups:
            group["lr"] = stage.peak_lr * max(factor, 0.02)
        pixels, captions = next(stream)
        image_features = model.encode_image(pixels, normalize=True)
        loss = criterion(image_features, encode_texts(model, captions), model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def last_layer(model: open_clip.CLIP, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Class attention and projected patch features of the last layer.

    Returns: (B, L) float32 head-averaged attention of the class token to the patches, and
    (B, L, C) float32 features after `ln_post` and the projection.
    """
    visual = model.visual
    *blocks, last = visual.transformer.resblocks
    x = visual._embeds(pixels)
    for block in blocks:
        x = block(x)
    normed = last.ln_1(x)
    attention = last.attn(normed[:, :1], normed, normed, need_weights=True)[1][:, 0, 1:]
    return attention, (visual.ln_post(last(x)) @ visual.proj)[:, 1:]


def probe_accuracy(features: Tensor, labels: Tensor, train_rows: int) -> float:
    """Linear probe: fit on the first rows, return the class-balanced accuracy on the others."""
    import torch
    from torch.nn import functional as F

    features = (features - features[:train_rows].mean(0)) / (features[:train_rows].std(0) + 1e-6)
    probe = torch.nn.Linear(features.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=1e-2)
    counts = torch.bincount(labels[:train_rows]).float()
    weight = counts.sum() / counts.clamp(min=1)
    for _ in range(300):
        rows = torch.randint(train_rows, (2048,))
        loss = F.cross_entropy(probe(features[rows]), labels[rows], weight / weight.mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hits = probe(features[train_rows:]).argmax(1) == labels[train_rows:]
    held_out = labels[train_rows:]
    return float(
        torch.stack([hits[held_out == c].float().mean() for c in held_out.unique()]).mean()
    )


def evaluate(model: open_clip.CLIP) -> dict[str, float]:
    """Zero-shot, retrieval, attention and patch-probe numbers on held-out scenes, all 0-1."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from milan_mm.data.shapes import SEMANTIC_CLASSES, SHAPES, SIZES, render_scene

    torch.manual_seed(0)
    model.eval()
    singles = [render_scene(HELD_OUT_SEED + i, num_objects=(1, 1)) for i in range(600)]
    scenes = [render_scene(HELD_OUT_SEED + 10**6 + i) for i in range(600)]
    with torch.no_grad():
        pixels = normalise(np.stack([scene.image for scene in scenes]))
        images = model.encode_image(pixels, normalize=True)
        single_images = model.encode_image(
            normalise(np.stack([scene.image for scene in singles])), normalize=True
        )
        prompts = [f"a {size} {shape}" for shape in SHAPES for size in SIZES]
        classes = encode_texts(model, prompts).view(len(SHAPES), len(SIZES), -1).mean(1)
        large = encode_texts(model, [f"a large {shape}" for shape in SHAPES])
        captions = encode_texts(model, [scene.caption for scene in scenes])
        attention, patches = last_layer(model, pixels)

    def share(predicted: Tensor, truth: list[int]) -> float:
        return float((predicted == torch.tensor(truth)).float().mean())

    matches = [
        (images[i : i + 100] @ captions[i : i + 100].T).argmax(1) == torch.arange(100)
        for i in range(0, 600, 100)
    ]
    labels = torch.from_numpy(np.stack([scene.labels for scene in scenes])).long()
    grid = model.visual.grid_size[0]
    cell = labels.shape[1] // grid
    cells = labels.view(-1, grid, cell, grid, cell).transpose(2, 3).reshape(-1, grid**2, cell**2)
    area = (cells > 3).float().mean(2)  # share of object pixels per patch
    dominant = F.one_hot(cells, len(SEMANTIC_CLASSES) + 1).sum(2)  # (B, L, classes)
    clear = (dominant.amax(2) > 0.6 * cell**2).flatten()  # patches that mostly show one class
    truth = dominant.argmax(2).flatten()
    rows = int(clear.view(len(scenes), -1)[:400].sum())
    raw = F.unfold(pixels, cell, stride=cell).transpose(1, 2).flatten(0, 1)
    return {
        "zero_shot_single_object": share(
            (single_images @ classes.T).argmax(1), [SHAPES.index(s.largest.shape) for s in singles]
        ),
        "zero_shot_largest_object": share(
            (images @ large.T).argmax(1), [SHAPES.index(s.largest.shape) for s in scenes]
        ),
        "zero_shot_chance": 1 / len(SHAPES),
        "retrieval_top1_of_100": float(torch.cat(matches).float().mean()),
        "retrieval_chance": 0.01,
        "attention_on_objects": float(((attention * area).sum(1) / attention.sum(1)).mean()),
        "object_area": float(area.mean()),
        "patch_probe": probe_accuracy(patches.flatten(0, 1)[clear], truth[clear], rows),
        "patch_probe_raw_pixels": probe_accuracy(raw[clear], truth[clear], rows),
    }


def save(model: open_clip.CLIP, out: Path, numbers: dict[str, float]) -> None:
    """Write fp16 weights and the evaluation; an interrupted save leaves the old file whole."""
    from safetensors.torch import save_file

    tensors = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    metadata = {
        "model": "shapes-clip",
        "evaluation": json.dumps({key: round(value, 4) for key, value in numbers.items()}),
        "image_mean": json.dumps(MEAN),
        "image_std": json.dumps(STD),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    save_file(tensors, partial, metadata)
    os.replace(partial, out)


def main() -> None:
    args = parse_args()
    import numpy as np
    import open_clip
    import torch
    from tqdm import tqdm

    import milan_mm
    from milan_mm.data.shapes import render_scene

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    open_clip.add_model_config(Path(milan_mm.__file__).parent / "assets" / "shapes-clip.json")
    if args.evaluate:
        model = open_clip.create_model("shapes-clip", pretrained=str(args.out))
        print(json.dumps(evaluate(model), indent=2))
        return
    rng = np.random.default_rng(args.seed)
    single = [
        render_scene(TRAIN_SEED + index, num_objects=(1, 1))
        for index in tqdm(range(args.scenes), desc="render single objects")
    ]
    easy = [s for s in single if (s.largest.size, s.largest.texture) == ("large", "plain")]
    full = [
        render_scene(TRAIN_SEED + args.scenes + index, num_objects=(1, 5))
        for index in tqdm(range(args.scenes), desc="render scenes")
    ]
    pools = {"easy": easy, "single": single, "crop": full, "whole": full}
    weights: dict[str, Tensor] = {}
    for number, stage in enumerate(STAGES, start=1):
        model = open_clip.create_model(
            "shapes-clip",
            force_image_size=stage.image_size,
            force_patch_dropout=stage.patch_dropout,
        )
        # The fixed sin-cos positions belong to the image size; everything else carries over.
        weights.pop("visual.positional_embedding", None)
        model.load_state_dict({**model.state_dict(), **weights})
        train_stage(model, stage, pools[stage.view], rng, f"stage {number}/{len(STAGES)}")
        weights = model.state_dict()
        whole = open_clip.create_model("shapes-clip")
        positions = whole.visual.positional_embedding.detach().clone()
        whole.load_state_dict({**weights, "visual.positional_embedding": positions})
        numbers = evaluate(whole)
        print(json.dumps(numbers, indent=2), flush=True)
        save(whole, args.out, numbers)


if __name__ == "__main__":
    main()
