"""The vote of the k nearest neighbours, on features that are there already.

Source: the weighted vote of arXiv 1805.01978, with the settings of DINO (arXiv 2104.14294): cosine
similarity, k = 20, weight exp(similarity / 0.07).
"""

import torch
from torch import Tensor

from milan_mm.errors import UserError

TOP = 5


@torch.inference_mode()
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
    if not 1 <= k <= len(train_features):
        raise UserError(
            f"k {k} is outside 1..{len(train_features)}, the number of training images: pass --k"
        )
    return torch.cat(
        [
            _vote(
                *nearest(part, train_features, train_labels, k, train_chunk),
                num_classes,
                temperature,
            )
            for part in features.split(chunk)
        ]
    )


def nearest(
    features: Tensor, train_features: Tensor, train_labels: Tensor, k: int, train_chunk: int
) -> tuple[Tensor, Tensor]:
    """Similarities and labels of the k training images most similar to each image, both (N, k)."""
    best = features.new_empty(len(features), 0)
    labels = train_labels.new_empty(len(features), 0)
    for block, block_labels in zip(
        train_features.split(train_chunk), train_labels.split(train_chunk), strict=True
    ):
        similarity = features @ block.T  # (N, train_chunk)
        top, ids = similarity.topk(min(k, len(block)), dim=1)
        best = torch.cat([best, top], dim=1)
        labels = torch.cat([labels, block_labels[ids]], dim=1)
        best, ids = best.topk(min(k, best.shape[1]), dim=1)
        labels = labels.gather(1, ids)
    return best, labels


def top_k_accuracy(predictions: Tensor, labels: Tensor, k: int) -> float:
    """Share in % of the images whose label is among the first k of their (N, TOP) predictions."""
    return 100 * (predictions[:, :k] == labels[:, None]).any(dim=1).double().mean().item()


def _vote(similarity: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    votes = similarity.new_zeros(len(similarity), num_classes)
    votes.scatter_add_(1, labels, (similarity / temperature).exp())
    return votes.topk(min(TOP, num_classes), dim=1).indices
