"""What the tiny CLIP and the tiny SLIP know about scenes that they have not seen."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from milan_mm.pretrain.clip_training import normalise
from milan_mm.shapes.models import encode_texts, load, load_teacher
from milan_mm.shapes.scenes import SEMANTIC_CLASSES, SHAPES, SIZES, render_scene

HELD_OUT_SEED = 2**41  # far from those of training and of `tools/make_shapes.py`


def evaluate(name: str, path: Path) -> dict[str, float]:
    """Zero-shot, retrieval, attention and patch-probe numbers of a file, all 0-1.

    Attention and patch features are those that MILAN's teacher takes from the file.
    """
    model, teacher = load(name, path), load_teacher(name, path)
    torch.manual_seed(0)  # for the probes
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
        features, attention = teacher(pixels)
        patches = features[:, 1:]

    def share(predicted: Tensor, truth: list[int]) -> float:
        return float((predicted == torch.tensor(truth)).float().mean())

    matches = [
        (images[i : i + 100] @ captions[i : i + 100].T).argmax(1) == torch.arange(100)
        for i in range(0, 600, 100)
    ]
    labels = torch.from_numpy(np.stack([scene.labels for scene in scenes])).long()
    grid = teacher.grid_size[0]
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


def probe_accuracy(features: Tensor, labels: Tensor, train_rows: int) -> float:
    """Linear probe: fit on the first rows, return the class-balanced accuracy on the others."""
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
