"""What a CLIP of photographs knows of classes that it was trained on, and of others."""

from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from milan_mm.evaluation.voting import knn_predict, top_k_accuracy
from milan_mm.photographs.captions import TEMPLATES, words_of
from milan_mm.photographs.data import ROLES, read_classes
from milan_mm.photographs.models import NO_CAPTIONS, SIZE, encode_texts, load
from milan_mm.photographs.pixels import read_split
from milan_mm.pretrain.clip_training import normalise
from milan_mm.weights.reading import read_metadata

NEIGHBOURS = 20


def evaluate(path: str | Path, root: Path) -> dict[str, float]:
    """Zero-shot and k-NN accuracy, 0-1, on the teacher's classes and on the student's.

    Both are measured on val/; neighbours are of train/. k-NN has k = 20, or all images if they are
    fewer, and uses the image features that the captions are compared with. A model that has seen no
    captions has no zero-shot accuracy.

    Args:
        path: A file of tools/train_photographs_clip.py.
        root: Folder of photographs, see `data.py`.

    Raises:
        MissingFileError, UserError: For a file or photographs that cannot be used.
    """
    classes, model = read_classes(root), load(path)
    knows_words = read_metadata(path).get("captions") != NO_CAPTIONS
    numbers = {}
    for role in ROLES:
        names = classes.of(role)
        near, near_labels = read_split(root / role / "train", names, SIZE)
        seen, labels = read_split(root / role / "val", names, SIZE)
        features, truth = image_features(model, seen), torch.from_numpy(labels)
        voted = knn_predict(
            image_features(model, near),
            torch.from_numpy(near_labels),
            features,
            len(names),
            min(NEIGHBOURS, len(near)),
        )
        if knows_words:
            named = (features @ class_features(model, words_of(names)).T).argmax(1)
            numbers[f"zero_shot_{role}_classes"] = (named == truth).float().mean().item()
        numbers[f"knn_{role}_classes"] = top_k_accuracy(voted, truth, 1) / 100
        numbers[f"chance_{role}_classes"] = 1 / len(names)
    return numbers


@torch.inference_mode()
def image_features(model: open_clip.CLIP, images: np.ndarray, batch: int = 250) -> Tensor:
    """(N, C) float32 of length 1, of (N, H, W, 3) uint8 RGB."""
    parts = (images[start : start + batch] for start in range(0, len(images), batch))
    return torch.cat([model.encode_image(normalise(part), normalize=True) for part in parts])


@torch.inference_mode()
def class_features(model: open_clip.CLIP, words: list[str]) -> Tensor:
    """(classes, C) float32 of length 1: the mean over all templates."""
    captions = [template.format(word) for word in words for template in TEMPLATES]
    features = encode_texts(model, captions).view(len(words), len(TEMPLATES), -1)
    return F.normalize(features.mean(1), dim=-1)
