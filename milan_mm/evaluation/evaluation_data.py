"""The data of an evaluation: published ones or a user's own, found, checked and identified."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config

from milan_mm.datasets.class_folders import REMEDY
from milan_mm.datasets.identity import data_hash
from milan_mm.errors import MissingFileError
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.fingerprint import data_counts, data_hashes
from milan_mm.evaluation.frozen.extraction import images_of
from milan_mm.evaluation.frozen.protocol import TrainImages
from milan_mm.evaluation.knn import check_same_classes
from milan_mm.evaluation.recipes import set_data
from milan_mm.evaluation.short import DATA_REMEDY, shorten, small_images
from milan_mm.evaluation.tasks import DATA_NAMES, TASKS
from milan_mm.run.checks.classes import check_classes
from milan_mm.run.checks.content import check_content
from milan_mm.run.checks.files import check_data
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.own_data import set_own_data
from milan_mm.run.own_data.classification import use_image_folder
from milan_mm.run.records.canonical import settings_hash

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass(frozen=True)
class EvaluationData:
    """Where the images and labels of every task are.

    Attributes:
        protocol: 'paper' or 'short'.
        data: Folder with imagenet/, coco/ and ade/.
        out: Folder of the results, where small copies of data are written for 'short'.
        images: Image folder for tasks on whole images instead of DATA/imagenet.
        det_data, seg_data, depth_data: A user's own folders instead of published ones, laid out as
            for `--data` of a training.
        notes: What was found in these, by task; filled in by `set_data`.
    """

    protocol: str
    data: Path
    out: Path
    images: Path | None = None
    det_data: Path | None = None
    seg_data: Path | None = None
    depth_data: Path | None = None
    notes: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _identified: dict[str, tuple] = field(default_factory=dict, repr=False, compare=False)

    def frozen_images(self, task: str) -> Path:
        """The image folder of a task on frozen features."""
        own = self.own_data(task)
        images = own or self.data / "imagenet"
        if self.protocol == "short":
            return small_images(images, self.small_data, REMEDY if own else DATA_REMEDY)
        return images

    def list_images(
        self, images: Path, task: str
    ) -> tuple[TrainImages, dict[str, int], dict[str, str | None]]:
        """The training images, and counts and hashes by split; each folder is listed once.

        Raises:
            MissingFileError, UserError: When they are not there, or a class has none in train/.
        """
        if str(images) not in self._identified:
            try:
                train, val = (read_image_folder(images, s, 1, 1.0) for s in ("train", "val"))
            except FileNotFoundError as error:
                remedy = REMEDY if self.own_data(task) else DATA_REMEDY
                raise _data_are_missing(error, remedy) from None
            check_same_classes(train, val)
            listed = images_of(train)
            known = TrainImages(
                train.img_prefix,
                torch.tensor(listed.labels),
                tuple(listed.classes),
                tuple(listed.names),
            )
            sets = dict(train=train, val=val)
            counts = {split: len(data) for split, data in sets.items()}
            hashes = {s: data_hash(dict(data_root=d.img_prefix)) for s, d in sets.items()}
            self._identified[str(images)] = known, counts, hashes
        return self._identified[str(images)]

    def identify_data(self, cfg: Config) -> tuple[dict[str, int], dict[str, str | None]]:
        """Counts and hashes by split; each data set is listed once for all cells."""
        sets = [dict(d, pipeline=None) for name in _LOADERS[:2] for _, d in datasets_of(cfg, name)]
        key = settings_hash(sets)
        if key not in self._identified:
            self._identified[key] = data_counts(cfg), data_hashes(cfg)
        return self._identified[key]

    @property
    def small_data(self) -> Path:
        """Where the data of 'short' are written."""
        return self.out / "short"

    def data_name(self, task: str) -> str:
        """That of a published data set, or of a folder; a folder never has the former's name."""
        own = self.own_data(task)
        if own is None:
            return TASKS[task].data.name
        name = own.absolute().name
        return f"{name} (own)" if name in DATA_NAMES else name

    def own_data(self, task: str) -> Path | None:
        """The user's own folder for a task; None where the published data are used."""
        folder, layout = {
            "classes": (self.images, "train/CLASS/* and val/CLASS/*"),
            "boxes": (self.det_data, "COCO files, as for tools/train.py --data"),
            "maps": (self.seg_data, "images, annotations and a classes.txt"),
            "depths": (self.depth_data, "images and depth maps"),
        }[TASKS[task].data.kind]
        if folder is not None and not folder.is_dir():
            raise MissingFileError(
                f"image folder '{folder}' does not exist: give a folder with {layout}"
            )
        return folder

    def set_data(self, cfg: Config, task: str) -> None:
        """Let a recipe read the data of this evaluation, which must be there."""
        set_data(cfg, self.data)
        own = self.own_data(task)
        if own and TASKS[task].data.kind == "classes":
            if self.protocol == "short":
                own = small_images(own, self.small_data, REMEDY)
            use_image_folder(cfg, own)
        elif own:
            is_new = task not in self.notes
            found = set_own_data(cfg, str(own))
            if is_new:  # what the training would refuse, before other cells have run for hours
                check_content(cfg, _LOADERS)
                said = {note.partition(": ")[2] for notes in self.notes.values() for note in notes}
                lines = [note.removeprefix(f"--data {own}: ") for note in found]
                self.notes[task] = [f"{task}: {line}" for line in lines if line not in said]
        try:
            check_data(cfg, _LOADERS)
            if self.protocol != "short":  # which takes the classes that both splits have
                check_classes(cfg, _LOADERS)
        except MissingFileError as error:
            raise _data_are_missing(error) from None

    def shorten(self, cfg: Config, task: str) -> list[str]:
        """Cut a recipe down for 'short'; see `RunOptions.shorten`."""
        shorten(cfg, task, self.small_data)
        return []


def _data_are_missing(error: FileNotFoundError, remedy: str = DATA_REMEDY) -> MissingFileError:
    """Replace the remedy in the message by one that fits this tool's options."""
    what = str(error).partition(": ")[0]
    return MissingFileError(f"{what}: {remedy}")
