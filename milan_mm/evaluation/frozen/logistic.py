"""Multinomial logistic regression by L-BFGS, the same minimum as scikit-learn's.

Minimised is C times the sum of the log losses plus half the squared norm of the weights; the
intercept is free. Two classes have one weight vector, as in scikit-learn. L-BFGS is SciPy's. It
works in coordinates in which the Hessian at equal probabilities is close to the identity: those of
the principal axes of the features, scaled. That changes nothing about the minimum, and takes tens
of iterations where features as they are take hundreds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController
from torch import Tensor

from milan_mm.evaluation.frozen.rows import Rows

MAX_ITERATIONS = 1000  # of DINOv2 and DINOv3
# Largest entry at the end, in the scaled coordinates, of the mean loss; less for a small C, whose
# weights are of the order of C times the number of rows.
_GRADIENT = 1e-6
_DECREASE = np.finfo(float).eps  # of the loss; the gradient decides
_NULL = 1e-13  # of the largest variance
_LINE_SEARCHES, _MEMORY = 50, 10


@dataclass(frozen=True)
class Linear:
    """A linear classifier.

    Attributes:
        weight: (D, K) float64, or (D, 1) of two classes. bias: (K,) or (1,).
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """(b, K) logits of (b, D) features, up to a constant for each row."""
        weight, bias = (t.to(features.device, features.dtype) for t in (self.weight, self.bias))
        return _complete(features @ weight + bias)


class LogisticRegression:
    """Fits classifiers to one training set, for any number of values of C.

    Args:
        rows: The training set; rotated, and not to be used by others afterwards.
        num_classes: Of the labels.
    """

    def __init__(self, rows: Rows, num_classes: int) -> None:
        self.rows = rows
        self.outputs = num_classes if num_classes > 2 else 1
        self.mean, self.axes, self._variances = _principal_axes(rows)
        rows.rotate(self.mean, self.axes)

    def fit(self, c: float, start: Linear | None = None) -> Linear:
        """The classifier for one C.

        Args:
            c: The inverse of the penalty, as in scikit-learn.
            start: From where; the solution for a C close by saves iterations.
        """
        penalty = 1 / (c * len(self.rows))  # of the mean loss
        first = torch.zeros(self.axes.shape[1] + 1, self.outputs, dtype=torch.float64)
        spread = 0.25
        if start is not None:
            first = self._rotated(start)
            spread = self._spread(first.to(self.rows.device))
        scale = (spread * self._variances + penalty).rsqrt()[:, None]  # (A, 1)

        def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.from_numpy(values).view(-1, self.outputs).to(scale.device)
            weight = scale * point[:-1]  # (A, K)
            loss, gradient = self._mean_loss(weight, point[-1])
            gradient[:-1].add_(weight, alpha=penalty).mul_(scale)
            total = loss + 0.5 * penalty * weight.square().sum()
            return total.item(), gradient.flatten().cpu().numpy()

        first[:-1] /= scale.cpu()
        options = dict(
            maxiter=MAX_ITERATIONS,
            maxls=_LINE_SEARCHES,
            maxcor=_MEMORY,
            gtol=_GRADIENT * min(1.0, 1 / penalty),
            ftol=_DECREASE,
        )
        start_values = first.flatten().numpy()
        with _one_thread_beside_torch():
            best = minimize(objective, start_values, method="L-BFGS-B", jac=True, options=options)
        point = torch.from_numpy(best.x).view(-1, self.outputs)
        weight = (self.axes @ (scale * point[:-1].to(scale.device))).cpu()
        return Linear(weight, point[-1] - self.mean.cpu() @ weight)

    def _rotated(self, classifier: Linear) -> Tensor:
        """(A+1, K) weights along the axes, and the intercept for centred features."""
        along = self.axes.cpu().T @ classifier.weight
        return torch.cat([along, (classifier.bias + self.mean.cpu() @ classifier.weight)[None]])

    def _spread(self, weights: Tensor) -> float:
        """Mean variance of an indicator of a class, by a classifier that is close to the wanted."""
        total = 0.0
        for z, _ in self.rows:
            p = _complete(torch.addmm(weights[-1], z, weights[:-1])).softmax(dim=1)
            total += (p * (1 - p)).mean(dim=1).sum().item()
        return total / len(self.rows)

    def _mean_loss(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log loss of the rotated features, and its gradients (A+1, K), the bias last."""
        loss = weight.new_zeros(())
        gradient = weight.new_zeros(len(weight) + 1, self.outputs)
        for z, labels in self.rows:
            scores = _complete(torch.addmm(bias, z, weight))  # (b, K)
            log_p = scores.log_softmax(dim=1)
            places = labels[:, None]
            loss -= log_p.gather(1, places).sum()
            error = log_p.exp_().scatter_add_(1, places, -torch.ones_like(log_p[:, :1]))
            error = error[:, -self.outputs :]
            gradient[:-1] += (error.T @ z).T  # faster than z.T @ error
            gradient[-1] += error.sum(dim=0)
        return loss / len(self.rows), gradient / len(self.rows)


@contextmanager
def _one_thread_beside_torch() -> Iterator[None]:
    """Let SciPy's BLAS take one thread: its threads and torch's would wait for each other.

    On two cores that made small fits 50 times slower.
    """
    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        yield


def _complete(scores: Tensor) -> Tensor:
    """(b, K) as they are; of two classes (b, 1) to (b, 2), the first of which is 0."""
    return torch.cat([torch.zeros_like(scores), scores], dim=1) if scores.shape[1] == 1 else scores


def _principal_axes(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), axes (D, A) in columns and variances (A,) of the features, in float64.

    Weights along axes without variance are zero at the minimum, so such axes are left out.
    """
    total = torch.zeros(rows.width, dtype=torch.float64, device=rows.device)
    for x, _ in rows:
        total += x.sum(dim=0, dtype=torch.float64)
    mean = total / len(rows)
    products = torch.zeros(rows.width, rows.width, dtype=torch.float64, device=rows.device)
    for x, _ in rows:
        centred = x - mean.to(x.dtype)
        products += centred.T @ centred
    variances, axes = torch.linalg.eigh(products / len(rows))
    kept = variances > _NULL * variances[-1].clamp_min(torch.finfo(torch.float64).tiny)
    return mean, axes[:, kept], variances[kept]
