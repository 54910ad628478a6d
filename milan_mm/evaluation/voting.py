"""The vote of the k nearest neighbours, on features that are there already.

Source: the weighted vote of arXiv 1805.01978, with the settings of DINO (arXiv 2104.14294): cosine
similarity, k = 20, weight exp(similarity / 0.07).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.errors import UserError

TOP = 5


def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 512,
    train_chunk: int = 65536,
) -> Tensor:
    """The likeliest classes of each image, by a weighted vote of its nearest training images.

    Similarities are computed in blocks of `chunk` x `train_chunk`, so that ImageNet fits.

    Args:
        train_features: (T, D) float, of length 1.
        train_labels: (T,) int64 in [0, num_classes).
        features: (N, D) float, of length 1, on the same device.
        k: Number of neighbours.
        temperature: A neighbour of similarity s votes with the weight exp(s / temperature).

    Returns:
        (N, min(5, num_classes)) int64: classes by falling vote.

    Raises:
        UserError: When k is outside 1..T.
    """
    nearest = neighbours(
        train_features, train_labels, features, k, chunk=chunk, train_chunk=train_chunk
    )
    return votes(*nearest, num_classes, (k,), temperature, chunk)[k]


@torch.inference_mode()
def neighbours(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    k: int,
    normalise: bool = False,
    chunk: int = 512,
    train_chunk: int = 65536,
) -> tuple[Tensor, Tensor]:
    """Similarities and labels of the k training images most similar to each image.

    The training features are read once, in blocks of `train_chunk`, and never copied as a whole.

    Args:
        train_features: (T, D) float, of length 1, or mapped from the disk and `normalise`.
        train_labels: (T,) int64.
        features: (N, D) float on the device that computes.
        normalise: Turn both into float32 of length 1.

    Returns:
        (N, k) float and (N, k) int64, by falling similarity.

    Raises:
        UserError: When k is outside 1..T.
    """
    if not 1 <= k <= len(train_features):
        raise UserError(
            f"k {k} is outside 1..{len(train_features)}, the number of training images: pass --k"
        )
    if normalise:
        features = F.normalize(features.float(), dim=1)
    device, parts = features.device, features.split(chunk)
    best = [part.new_empty(len(part), 0) for part in parts]
    labels = [train_labels.new_empty(len(part), 0, device=device) for part in parts]
    for start in range(0, len(train_features), train_chunk):
        block = train_features[start : start + train_chunk].to(device)
        if normalise:
            block = F.normalize(block.float(), dim=1)
        block_labels = train_labels[start : start + train_chunk].to(device)
        for i, part in enumerate(parts):
            similarity = part @ block.T  # (chunk, train_chunk)
            top, ids = similarity.topk(min(k, len(block)), dim=1)
            found = torch.cat([best[i], top], dim=1)
            theirs = torch.cat([labels[i], block_labels[ids]], dim=1)
            best[i], ids = found.topk(min(k, found.shape[1]), dim=1)
            labels[i] = theirs.gather(1, ids)
    return torch.cat(best), torch.cat(labels)


@torch.inference_mode()
def votes(
    similarity: Tensor,
    labels: Tensor,
    num_classes: int,
    ks: Sequence[int],
    temperature: float = 0.07,
    chunk: int = 512,
) -> dict[int, Tensor]:
    """The likeliest classes by the votes of the first k neighbours, for each k.

    Args:
        similarity, labels: (N, at least the largest k), by falling similarity, see `neighbours`.

    Returns:
        (N, min(5, num_classes)) int64 for each k: classes by falling vote.
    """
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for near, theirs in zip(similarity.split(chunk), labels.split(chunk), strict=True):
        weights, counted = (near / temperature).exp(), 0
        total = near.new_zeros(len(near), num_classes)
        for k in sorted(ks):
            total.scatter_add_(1, theirs[:, counted:k], weights[:, counted:k])
            counted = k
            found[k].append(total.topk(min(TOP, num_classes), dim=1).indices)
    return {k: torch.cat(parts) for k, parts in found.items()}


def top_k_accuracy(predictions: Tensor, labels: Tensor, k: int) -> float:
    """Share in % of the images whose label is among the first k of their (N, TOP) predictions."""
    return 100 * hits(predictions, labels, k).double().mean().item()


def hits(predictions: Tensor, labels: Tensor, k: int) -> Tensor:
    """(N,) bool, whether the label of an image is among the first k of its predictions."""
    return (predictions[:, :k] == labels[:, None]).any(dim=1)
