"""Are the data where the config says? Asked before anything is built or written."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from milan_mm.errors import MissingFileError


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Look for every folder and annotation file of the given data loaders and their evaluators.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Raises:
        MissingFileError: Names what is missing, the config field, and the remedy.
    """
    for loader in loaders:
        for field, dataset in datasets_of(cfg, loader):
            _check_dataset(field, dataset)
        for evaluator in evaluators_of(cfg, loader):
            field = loader.replace("dataloader", "evaluator")
            _check_file(f"{field}.ann_file", evaluator.get("ann_file"))


def datasets_of(cfg: Config, loader: str) -> Iterator[tuple[str, dict]]:
    """The data sets of a data loader that read files, with the names of their fields."""
    if cfg.get(loader):
        yield from _unwrap(cfg[loader].dataset, f"{loader}.dataset")


def evaluators_of(cfg: Config, loader: str) -> list[dict]:
    """The metrics that judge the samples of a data loader."""
    evaluators = cfg.get(loader.replace("dataloader", "evaluator")) or []
    return [evaluators] if isinstance(evaluators, dict) else evaluators


def is_local(dataset: dict) -> bool:
    """Whether a data set lies in a folder of this machine."""
    return not (dataset.get("backend_args") or "://" in (dataset.get("data_root") or ""))


def _unwrap(dataset: dict, field: str) -> Iterator[tuple[str, dict]]:
    if isinstance(dataset.get("dataset"), dict):
        yield from _unwrap(dataset["dataset"], f"{field}.dataset")
    elif "datasets" in dataset:
        for i, part in enumerate(dataset["datasets"]):
            yield from _unwrap(part, f"{field}.datasets.{i}")
    else:
        yield field, dataset


def _check_dataset(field: str, dataset: dict) -> None:
    if not is_local(dataset):
        return
    root = dataset.get("data_root") or ""
    if root and not Path(root).is_dir():
        raise MissingFileError(
            f"data folder '{root}' ({field}.data_root) does not exist: link or unpack the data "
            f"there, or pass --cfg-options {field}.data_root=DIR"
        )
    prefixes = dataset.get("data_prefix") or {}
    if isinstance(prefixes, str):
        prefixes = {"": prefixes}
    for key, prefix in prefixes.items():
        folder = Path(root, prefix)
        if not folder.is_dir():
            name = f"{field}.data_prefix" + (f".{key}" if key else "")
            raise MissingFileError(
                f"data folder '{folder}' ({name}) does not exist: link or unpack the data there, "
                f"or pass --cfg-options {name}=DIR (relative to {field}.data_root)"
            )
    ann_file = dataset.get("ann_file")
    if ann_file:
        _check_file(f"{field}.ann_file", str(Path(root, ann_file)))


def _check_file(field: str, path: str | None) -> None:
    if path and "://" not in path and not Path(path).is_file():
        raise MissingFileError(
            f"annotation file '{path}' ({field}) does not exist: link or unpack the data there, "
            f"or pass --cfg-options {field}=FILE"
        )
