"""k-NN and linear probe on frozen features of the student's photographs, which are read once.

The photographs are 64 px as they are, so nothing is cut: `tools/evaluate.py --crop-pct 1` sees the
same pixels.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from milan_mm.configs import load
from milan_mm.evaluation.encoders import heads_of, load_frozen_encoder
from milan_mm.evaluation.features import find_device
from milan_mm.evaluation.frozen.extraction import Preparation, pooled
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.frozen.table import PROTOCOLS
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.plain_vit import PlainViT
from milan_mm.photographs.arms import PRETRAIN
from milan_mm.photographs.data import SPLITS, read_classes
from milan_mm.photographs.linear import linear_probe
from milan_mm.photographs.measures import evaluate
from milan_mm.photographs.models import PROCESSOR_SECONDS
from milan_mm.photographs.pixels import read_split
from milan_mm.registry import MODELS
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.reading import read_metadata
from milan_mm.weights.recognising import read_encoder
from milan_mm.weights.statistics import byte_stats

BATCH_SIZE = 250
POOLINGS = {"cls_token": "class token", "avg": "mean of patches"}
LINEAR = "linear probe, mean of patches"  # the vector that finetuning takes
METRICS = (*(f"k-NN, {vector}" for vector in POOLINGS.values()), LINEAR)


@dataclass
class FeaturesInMemory:
    """The features of both splits by one pooling, whatever a protocol asks for.

    See `milan_mm.evaluation.frozen.protocol.Features`.
    """

    encoder: Encoder
    images: Path
    preparation: Preparation
    vit: PlainViT
    sets: Mapping[str, FeatureSet]

    def __call__(self, split: str, pooling: str) -> FeatureSet:
        """Those of 'train' or 'val'."""
        return self.sets[split]


def teacher_rows(
    file: Path, root: Path, facts: Mapping[str, object], is_measured: bool
) -> list[dict]:
    """Zero-shot and k-NN accuracy of a teacher on its own classes and on the student's, in %.

    Args:
        is_measured: The file was trained on these photographs, and may state its numbers and the
            processor seconds that it took.
    """
    stated = read_metadata(file) if is_measured else {}
    numbers = json.loads(stated.get("evaluation", "{}")) or evaluate(file, root)
    costs = {key: float(stated[key]) for key in stated if key == PROCESSOR_SECONDS}
    return [
        dict(facts, **costs, metric=name, value=round(100 * value, 4))
        for name, value in numbers.items()
        if not name.startswith("chance")
    ]


def student_rows(
    file: Path | None,
    seed: int,
    root: Path,
    facts: Mapping[str, object],
    num_heads: int | None = None,
) -> list[dict]:
    """Top-1 on the student's classes in %, by protocol and pooling, each with its interval.

    Args:
        file: Of an encoder; None draws an untrained one by the seed.
        root: Of the photographs.
        num_heads: Of a file that does not state it.
    """
    encoder = read_encoder(file, num_heads=num_heads) if file else None
    vit = load_frozen_encoder(encoder)[0] if encoder else untrained(seed)
    stats = encoder.stats if encoder else "imagenet"
    shape = Shape(
        embed_dims=vit.embed_dims,
        num_layers=vit.num_layers,
        num_heads=heads_of(vit),
        patch_size=vit.patch_size,
        img_size=vit.grid_size[0] * vit.patch_size,
        with_cls_token=vit.with_cls_token,
    )
    sets = {split: features_of(vit, stats, root, split) for split in SPLITS}
    rows = []
    for pooling, vector in POOLINGS.items():
        features = FeaturesInMemory(
            encoder,  # type: ignore[arg-type]  # the vote does not look at it
            root / "student",
            Preparation(shape.img_size, crop_pct=1),
            vit,
            {split: found[pooling] for split, found in sets.items()},
        )
        measured = PROTOCOLS["knn"].measure(features, shape, lambda: None)["top-1"]
        rows.append(dict(facts, metric=f"k-NN, {vector}", **measured.facts))
    measured = linear_probe(*(sets[split]["avg"] for split in SPLITS))
    return [*rows, dict(facts, metric=LINEAR, **measured.facts)]


def untrained(seed: int) -> PlainViT:
    """The encoder of the arms before its pretraining."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS.build(load(PRETRAIN).model.backbone).eval()


@torch.inference_mode()
def features_of(vit: PlainViT, stats: str, root: Path, split: str) -> dict[str, FeatureSet]:
    """The features of the student's photographs after the last block, by pooling.

    Args:
        vit: Frozen. stats: See `stats_text`.
    """
    size = vit.grid_size[0] * vit.patch_size
    images, labels = _photographs(root, split, size)
    names = tuple(read_classes(root).student)
    device, last = find_device(), vit.num_layers - 1
    vit.to(device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in byte_stats(stats))
    found: dict[str, list[Tensor]] = {pooling: [] for pooling in POOLINGS}
    for start in range(0, len(images), BATCH_SIZE):
        batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device)
        inputs = (batch.permute(0, 3, 1, 2).float() - mean) / std
        for pooling, rows in pooled(vit, inputs, Needs((last,), tuple(POOLINGS))).items():
            found[pooling].append(rows.cpu())
    return {
        pooling: FeatureSet(
            features=torch.cat(rows),
            labels=torch.from_numpy(labels),
            classes=names,
            names=(),
            blocks=(last,),
            pooling=pooling,
        )
        for pooling, rows in found.items()
    }


@cache
def _photographs(root: Path, split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All of the student's: 220 MB at 64 px."""
    return read_split(root / "student" / split, read_classes(root).student, size)
