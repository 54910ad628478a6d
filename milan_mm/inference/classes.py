"""What classes are called in results, and by which numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from timm.data import ImageNetInfo
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from milan_mm.inference.restoring import Restored
from milan_mm.palette import class_palette, object_colours
from milan_mm.run.records.record import model_of

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
        stood for pixels without a label there (ADE20K), else the label. Depth has no classes.
        """
        known, task = restored.classes or [], restored.task
        if task == "depth":
            return cls([], [], [])
        number = model_of(restored.config)["num_classes"] or len(known) or 1000
        notes = []
        if not known and task == "cls" and number == 1000:
            known = _imagenet_names()
            notes = [f"{restored.path} has no class names: those of ImageNet-1k are shown"]
        elif len(known) < number:
            what = "has no class names: they"
            if known:
                what = f"names {len(known)} of its {number} classes: the others"
            notes = [f"{restored.path} {what} are numbered, from 0"]
        first = int(task == "det" or reduces_zero_label(restored))
        return cls.named(task, known, restored.palette or (), number, first, tuple(notes))

    @classmethod
    def named(
        cls,
        task: str,
        known: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        number: int = 0,
        first: int = 0,
        notes: tuple[str, ...] = (),
    ) -> "Classes":
        """Classes by their names.

        Args:
            known: Names of the first labels; the others get numbers.
            palette: Colours of these; our own where there are fewer.
            number: Of classes, at least those that are known.
            first: The number of label 0 in results.
        """
        number = max(number, len(known))
        names = [*known, *(f"class {label}" for label in range(len(known), number))]
        colours = [*palette[:number], *class_palette(number)[len(palette) :]]
        ids = list(range(first, first + number))
        if task == "det":
            ids = list(coco.values()) if names == list(coco := _coco_ids()) else ids
            colours = object_colours(colours)
        elif task == "cls":
            names = [_described(name) for name in names]
        return cls(names, ids, colours, notes)


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
