"""95 % intervals of a number by the bootstrap: what other test images would have given.

The percentile bootstrap of Efron: the images are drawn again with replacement, as many as there
are, and the statistic is taken of each resample. It covers the choice of the test images alone, not
that of the training images, of seeds or of the pretraining.
"""

from collections.abc import Callable

import numpy as np

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
        outcomes: (N,) numbers, e.g. whether each answer is right, or the share of draws in which
            it is.

    Returns:
        Its ends, in the unit of the outcomes.
    """
    values, counts = np.unique(np.asarray(outcomes, dtype=np.float64), return_counts=True)
    generator, total = np.random.default_rng(seed), int(counts.sum())
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
) -> tuple[float, float]:
    """The interval of a statistic that is not a mean over images, such as mIoU.

    Args:
        statistic: Of (R, N) float32, how often each image is in each of R resamples, to (R,)
            numbers. With per-image counts it is a product of matrices.
        num_images: N.

    Returns:
        Its ends, in the unit of the statistic; resamples that give NaN are left out.
    """
    generator = np.random.default_rng(seed)
    step, found = max(1, _CHUNK_VALUES // num_images), []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, num_images, (rows, num_images))
        drawn += np.arange(rows)[:, None] * num_images
        times = np.bincount(drawn.ravel(), minlength=rows * num_images)
        found.append(statistic(times.reshape(rows, num_images).astype(np.float32)))
    return _ends(np.concatenate(found))


def _ends(values: np.ndarray) -> tuple[float, float]:
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
