"""mmdet's COCO data set on a file that this process has read already."""

import os
from pathlib import Path

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets import LVISV1Dataset as MMDetLVISDataset
from mmdet.datasets.api_wrappers import COCO

from milan_mm.datasets.coco.reading import read_coco, take_coco
from milan_mm.datasets.collection import paused_collection
from milan_mm.registry import DATASETS


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """mmdet's `CocoDataset`, with the same arguments and samples.

    It takes what the checks before a start have read, so that an annotation file is parsed once,
    and reads what they can read: files with a mark of byte order and in UTF-16. Training runs put
    it in the place of mmdet's.
    """

    def COCOAPI(self, path: str | os.PathLike[str]) -> COCO:
        """pycocotools' index of an annotation file."""
        # an evaluator reads the file of a validation after this
        read = read_coco if self.test_mode else take_coco
        file = read(Path(path), with_annotations=False)
        index = COCO()
        index.dataset = dict(
            images=file.images, annotations=file.annotations, categories=file.categories
        )
        index.createIndex()
        index.img_ann_map, index.cat_img_map = index.imgToAnns, index.catToImgs
        return index

    def full_init(self) -> None:
        """Load the annotations, unless that was done."""
        with paused_collection():
            super().full_init()


@DATASETS.register_module()
class LVISV1Dataset(CocoDataset):
    """LVIS v1 as mmdet's `LVISV1Dataset` reads it, without the package `lvis`.

    Images are found by their URL: 'train2017/NAME.jpg' below `data_prefix.img`. Without `classes`
    in `metainfo`, these are the categories of the file, of which mmdet spells one differently.
    """

    METAINFO = MMDetLVISDataset.METAINFO

    def COCOAPI(self, path: str | os.PathLike[str]) -> COCO:
        """pycocotools' index of an annotation file."""
        index = super().COCOAPI(path)
        if self._metainfo["classes"] == self.METAINFO["classes"]:
            self._metainfo["classes"] = tuple(c["name"] for c in index.dataset["categories"])
        return index
