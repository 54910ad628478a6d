"""Image folders of a recipe are read with all types of images that the package knows.

mmpretrain's data sets leave .webp and .tiff out without a word, unless a config says otherwise.
"""

from mmengine.config import Config

from milan_mm.datasets.folders import EXTENSIONS
from milan_mm.run.config_nodes import datasets_of, type_name

FOLDER_TYPES = ("CustomDataset", "ImageNet", "ImageNet21k")  # of mmpretrain
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def read_every_type(cfg: Config) -> None:
    """Name the endings of images where a data set of a folder does not, in place."""
    for loader in _LOADERS:
        for _, dataset in datasets_of(cfg, loader):
            if type_name(dataset) in FOLDER_TYPES:
                dataset.setdefault("extensions", EXTENSIONS)
