"""What classes are called in results, and by which numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from timm.data import ImageNetInfo
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from milan_mm.datasets.palette import class_palette
from milan_mm.inference.restoring import Restored
from milan_mm.run.records.record import model_of
from milan_mm.visualization.drawing import object_colours

_SYNSET = re.compile(r"n\d{8}")  # WordNet's numbers, which ImageNet's folders are named by


@dataclass(frozen=True)
class Classes:
    """The classes of a model, by label from 0.

    Attributes:
        names: Of all labels.
        ids: Numbers in the results: category ids of detections, values of label maps, labels of a
            classification.
        colours: RGB, 0-255.
        notes: Lines for the user.
    """

    names: list[str]
    ids: list[int]
    colours: list[tuple[int, int, int]]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, restored: Restored) -> "Classes":
        """Those of a model that predicts.

        Detections have COCO's own category ids where the classes are COCO's 80, and label + 1
        elsewhere. Label maps hold what the label files of the training hold: label + 1 where 0
        stood for pixels without a label there (ADE20K), else the label.
        """
        known = restored.classes
        number = len(known) if known else model_of(restored.config)["num_classes"] or 1000
        names, notes = list(known or []), []
        if not known:
            names = [f"class {label}" for label in range(number)]
            if restored.task == "cls" and number == 1000:
                names = _imagenet_names()
                notes = [f"{restored.path} has no class names: those of ImageNet-1k are shown"]
            else:
                notes = [f"{restored.path} has no class names: classes are numbered from 0"]
        elif restored.task == "cls":
            names = [_described(name) for name in names]
        colours = list(restored.palette or class_palette(number))
        if restored.task == "det":
            colours = object_colours(colours)
        return cls(names, _ids(restored, names), colours, tuple(notes))


def _ids(restored: Restored, names: Sequence[str]) -> list[int]:
    if restored.task == "det":
        coco = _coco_ids()
        return list(coco.values()) if names == list(coco) else list(range(1, len(names) + 1))
    first = int(restored.task == "seg" and reduces_zero_label(restored))
    return list(range(first, first + len(names)))


def reduces_zero_label(restored: Restored) -> bool:
    """Whether 0 stands for pixels without a label in the label files of a training."""
    of_data = restored.recorded.meta.get("dataset_meta")
    return isinstance(of_data, Mapping) and bool(of_data.get("reduce_zero_label"))


def _coco_ids() -> dict[str, int]:
    """Category ids of COCO's 80 classes, in the order of its file."""
    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {name: i for i, name in enumerate(names) if i and name != "N/A"}


def _imagenet_names() -> list[str]:
    names = ImageNetInfo("imagenet-1k")
    return [_first(names.index_to_description(label)) for label in range(names.num_classes())]


def _described(name: str) -> str:
    """'tench' for 'n01440764'; other names are left alone."""
    if not _SYNSET.fullmatch(name):
        return name
    try:
        return _first(_every_synset().label_name_to_description(name))
    except KeyError:
        return name


@cache
def _every_synset() -> ImageNetInfo:
    return ImageNetInfo("imagenet-22k")


def _first(description: str) -> str:
    """'tench' of 'tench, Tinca tinca'."""
    return description.partition(",")[0]
