"""Are the data where the config says? Checked before anything is built or written."""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.conversion import conversion_hint
from milan_mm.errors import MissingFileError
from milan_mm.run.config_nodes import datasets_of, evaluators_of

_GENERATED = "shapes"  # folder of the data set that tools/make_shapes.py writes


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


def is_local(dataset: dict) -> bool:
    """Whether a data set lies in a folder of this machine."""
    return not (dataset.get("backend_args") or "://" in (dataset.get("data_root") or ""))


def _check_dataset(field: str, dataset: dict) -> None:
    if not is_local(dataset):
        return
    root = dataset.get("data_root") or ""
    if root and not Path(root).is_dir():
        if _GENERATED in Path(root).parts:
            raise MissingFileError(
                f"the generated scenes are not in '{root}' ({field}.data_root): write them by "
                "`milan-mm make_shapes`, in half a minute"
            )
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
            if hint := conversion_hint(folder):
                raise MissingFileError(f"data folder '{folder}' does not exist: {hint}")
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
        if hint := conversion_hint(path):
            raise MissingFileError(f"annotation file '{path}' does not exist: {hint}")
        raise MissingFileError(
            f"annotation file '{path}' ({field}) does not exist: link or unpack the data there, "
            f"or pass --cfg-options {field}=FILE"
        )
