"""How concentrated the attention of an image's vector is: patches that take most of it are sinks.

Modern ViTs without registers park global information in patches that say little (arXiv 2309.16588):
such a patch takes much of the attention wherever it lies, mostly in the background.
"""

from dataclasses import dataclass

import numpy as np

STRONG = 0.05  # share of the patches that are called the strongest


@dataclass(frozen=True)
class Concentration:
    """Means over images, all in 0-1 but `patches`.

    Attributes:
        top: Share of the attention to patches that the strongest patch takes.
        strongest: The same of the strongest 5 % of the patches.
        patches: exp(entropy): over how many patches a uniform attention would be as spread.
        num_patches: L.
        plain: Share of the strongest 5 % that lie among the plainer half of an image's patches,
            those of lower variance; 0.5 where attention has nothing to do with it.
        elsewhere: Share of all attention that goes to class token and registers.
    """

    top: float
    strongest: float
    patches: float
    num_patches: int
    plain: float
    elsewhere: float

    def __str__(self) -> str:
        return (
            f"strongest patch {self.top:.1%}, strongest 5 % of patches {self.strongest:.1%} of the "
            f"attention to patches, as spread as over {self.patches:.0f} of {self.num_patches}; "
            f"{self.plain:.0%} of the strongest lie in the plainer half of the image; class token "
            f"and registers take {self.elsewhere:.1%}"
        )


def concentration(attention: np.ndarray, variance: np.ndarray) -> Concentration:
    """Measure maps of attention.

    Args:
        attention: (B, h, w) >= 0, mean of the heads; a map sums to 1 minus what goes elsewhere.
        variance: (B, h, w), of the pixels in each patch.
    """
    flat = attention.reshape(len(attention), -1).astype(np.float64)
    total = flat.sum(axis=1, keepdims=True)
    shares = flat / np.maximum(total, np.finfo(np.float64).tiny)
    num_patches = shares.shape[1]
    count = max(1, round(STRONG * num_patches))
    order = np.argsort(-shares, axis=1, kind="stable")[:, :count]
    strong = np.take_along_axis(shares, order, axis=1)
    entropy = -(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum(axis=1)
    pixels = variance.reshape(len(variance), -1)
    is_plain = pixels < np.median(pixels, axis=1, keepdims=True)
    return Concentration(
        top=float(strong[:, 0].mean()),
        strongest=float(strong.sum(axis=1).mean()),
        patches=float(np.exp(entropy).mean()),
        num_patches=num_patches,
        plain=float(np.take_along_axis(is_plain, order, axis=1).mean()),
        elsewhere=float(1 - total.mean()),
    )


def patch_variance(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Variance of the grey values in each patch.

    Args:
        image: (H, W, 3), sides multiples of `grid`. grid: (h, w).

    Returns:
        (h, w) float.
    """
    (h, w), grey = grid, image.astype(np.float64).mean(axis=2)
    height, width = grey.shape
    return grey.reshape(h, height // h, w, width // w).var(axis=(1, 3))
