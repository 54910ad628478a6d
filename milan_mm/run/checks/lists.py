"""Do the lines of a list of samples name files inside of its folder, and labels of the head?

mmpretrain's and mmseg's data sets can read their samples from a text file (`ann_file`, or
meta/SPLIT.txt of ImageNet). They follow any name, and hand any label to the loss. COCO: coco.py.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.folders import leads_out
from milan_mm.datasets.pair_folder import read_lines
from milan_mm.errors import UserError
from milan_mm.run.checks.files import is_local
from milan_mm.run.config_nodes import datasets_of, type_name
from milan_mm.text import shorten

# of mmpretrain those whose lines are "NAME LABEL"; its other data sets have lists of other kinds
_LABELLED = ("CustomDataset", "ImageNet", "ImageNet21k", "Places205")
_NO_TEXT = (".json", ".yaml", ".yml", ".pkl", ".npy", ".mat", ".csv", ".xml")


def check_lists(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check every line of the lists of the given data loaders.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Raises:
        UserError: Names the file, its line, and the remedy.
    """
    scope = cfg.get("default_scope")
    num_classes = ((cfg.get("model") or {}).get("head") or {}).get("num_classes")
    for loader in loaders:
        for _, dataset in datasets_of(cfg, loader):
            is_labelled = scope == "mmpretrain" and type_name(dataset) in _LABELLED
            if not (is_labelled or scope == "mmseg") or not is_local(dataset):
                continue
            has_labels = is_labelled and dataset.get("with_label", True)
            for file in _lists(dataset):
                _check(file, _has_folder(dataset), num_classes if has_labels else None)
    return []


def _lists(dataset: Mapping) -> Iterator[Path]:
    root = Path(dataset.get("data_root") or "")
    names = [dataset.get("ann_file"), f"meta/{dataset['split']}.txt" if "split" in dataset else ""]
    for name in filter(None, names):
        file = root / str(name)
        if file.is_file() and file.suffix.lower() not in _NO_TEXT:
            yield file


def _has_folder(dataset: Mapping) -> bool:
    """Whether names are relative to a folder; else the list says itself where its files are."""
    prefix = dataset.get("data_prefix") or dataset.get("split")
    return bool(dataset.get("data_root") or prefix)


def _check(file: Path, has_folder: bool, num_classes: object) -> None:
    for number, line in enumerate(read_lines(file), start=1):
        name, label = line, ""
        if num_classes is not None:
            name, _, label = line.rpartition(" ")
        if has_folder and leads_out(name):
            raise UserError(
                f"line {number} of '{file}' names '{shorten(name or line)}', which is not a name "
                "inside a folder: give names relative to the folder of the images"
                + (", each with its label" if num_classes is not None else "")
            )
        if isinstance(num_classes, int) and not (
            label.isascii() and label.isdecimal() and int(label) < num_classes
        ):
            raise UserError(
                f"line {number} of '{file}' has the label '{shorten(label)}', the limits are 0 and "
                f"{num_classes - 1}, as model.head.num_classes says: correct the file, or the head"
            )
