"""Class folders without splits: ROOT/CLASS/*."""

from milan_mm.datasets.folders import list_images, subfolders
from milan_mm.upkeep.convert.samples import ALL, Found, Sample
from milan_mm.upkeep.convert.source import Source


def read_class_folders(source: Source) -> Found:
    """Take each folder as a class, in alphabetical order; hidden ones are left out."""
    root = source.root
    classes = [name for name in subfolders(root) if not name.startswith(".")]
    samples = [
        Sample(root / name / image, f"{name}/{image}", label=number)
        for number, name in enumerate(classes)
        for image in list_images(root / name)
    ]
    return Found(classes, {ALL: samples})
