"""Other published test images for a classifier of ImageNet-1K: a table that imports nothing heavy.

Each variant has labels of ImageNet-1K, or of some of its classes: a checkpoint is tested as it is,
and only the classes of the variant compete.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from milan_mm.errors import MissingFileError

# Errors of AlexNet, to which ImageNet-C compares: github.com/hendrycks/robustness.
ALEXNET_ERRORS = dict(
    gaussian_noise=0.886428,
    shot_noise=0.894468,
    impulse_noise=0.922640,
    defocus_blur=0.819880,
    glass_blur=0.826268,
    motion_blur=0.785948,
    zoom_blur=0.798360,
    snow=0.866816,
    frost=0.826572,
    fog=0.819324,
    brightness=0.564592,
    contrast=0.853204,
    elastic_transform=0.646056,
    pixelate=0.717840,
    jpeg_compression=0.606500,
)
SEVERITIES = tuple("12345")


@dataclass(frozen=True)
class Variant:
    """A published set of test images.

    Attributes:
        title: In tables. source: Where its images and its protocol come from.
        folders: Names of its folder below a root of data sets.
        num_classes: That compete; which ones, the folder says.
    """

    title: str
    source: str
    folders: tuple[str, ...]
    num_classes: int = 1000


VARIANTS = {
    "imagenet-v2": Variant(
        "ImageNet-V2",
        "arXiv 1902.10811",
        ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "imagenet-v2"),
    ),
    "imagenet-a": Variant("ImageNet-A", "arXiv 1907.07174", ("imagenet-a",), 200),
    "imagenet-r": Variant("ImageNet-R", "arXiv 2006.16241", ("imagenet-r",), 200),
    "imagenet-sketch": Variant(
        "ImageNet-Sketch", "arXiv 1905.13549", ("imagenet-sketch", "sketch")
    ),
    "imagenet-c": Variant("ImageNet-C", "arXiv 1903.12261", ("imagenet-c",)),
    "imagenet-real": Variant(
        "ImageNet-ReaL", "arXiv 2006.07159", ("imagenet/val", "imagenet/validation")
    ),
}


@cache
def class_ids() -> tuple[str, ...]:
    """WordNet ids of the classes of ImageNet-1K, in the order of the labels."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


def find_variant(name: str, root: str | Path) -> Path:
    """The folder of a variant below a root of data sets.

    Raises:
        MissingFileError: Names what was looked for.
    """
    for folder in VARIANTS[name].folders:
        if (Path(root) / folder).is_dir():
            return Path(root) / folder
    looked_for = " or ".join(VARIANTS[name].folders)
    raise MissingFileError(
        f"'{root}' has no folder {looked_for}, for {VARIANTS[name].title}: link or unpack it there"
    )
