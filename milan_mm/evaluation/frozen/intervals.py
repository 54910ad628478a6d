"""95 % intervals of a number by the bootstrap: what other test images would have given.

The percentile bootstrap of Efron: the images are drawn again with replacement, as many as there
are, and the statistic is taken of each resample. It covers the choice of the test images alone, not
that of the training images, of seeds or of the pretraining.

Where all images gave the same, so do all resamples, and the bootstrap has no width: 20 right
answers of 20 would be 100 % for certain. There the interval is Wilson's (1927), [83.9, 100].
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

RESAMPLES = 10_000  # of a mean, which costs milliseconds
RESAMPLES_OF_OTHERS = 1_000
LEVEL = 0.95
_CHUNK_VALUES = 8 * 2**20


def mean_interval(
    outcomes: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The interval of the mean of what each image gave.

    Resampling N images with replacement draws how often each distinct outcome occurs from a
    multinomial distribution, so right and wrong answers need one number per resample, not N.

    Args:
        outcomes: (N,) numbers in 0..1: whether each answer is right, or the share of draws in which
            it is.

    Returns:
        Its ends.
    """
    values, counts = np.unique(np.asarray(outcomes, dtype=np.float64), return_counts=True)
    generator, total = np.random.default_rng(seed), int(counts.sum())
    if len(values) == 1:
        return _wilson(float(values[0]), total)
    step = max(1, _CHUNK_VALUES // len(values))
    means = [
        generator.multinomial(total, counts / total, size=min(step, resamples - start)) @ values
        for start in range(0, resamples, step)
    ]
    return _ends(np.concatenate(means) / total)


def statistic_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    num_images: int,
    resamples: int = RESAMPLES_OF_OTHERS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The interval of a statistic that is not a mean over images, such as mIoU.

    Args:
        statistic: Of (R, N) float32, how often each image is in each of R resamples, to (R,)
            numbers. With per-image counts it is a product of matrices.
        num_images: N.

    Returns:
        Its ends, in the unit of the statistic; resamples that give NaN are left out. None where all
        give the same, so that nothing is known: of a single image, or of images that are alike.
    """
    generator = np.random.default_rng(seed)
    step, found = max(1, _CHUNK_VALUES // num_images), []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, num_images, (rows, num_images))
        drawn += np.arange(rows)[:, None] * num_images
        times = np.bincount(drawn.ravel(), minlength=rows * num_images)
        found.append(statistic(times.reshape(rows, num_images).astype(np.float32)))
    low, high = _ends(np.concatenate(found))
    return (low, high) if low < high else None


def _wilson(share: float, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share of `total` answers."""
    z2 = ndtri((1 + LEVEL) / 2) ** 2 / total
    centre = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return min(low, share), max(high, share)  # which rounding may have left out


def _ends(values: np.ndarray) -> tuple[float, float]:
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
