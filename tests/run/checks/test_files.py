"""Missing data are named before anything is built."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.run.checks.files import check_data

LOADERS = ("train_dataloader", "val_dataloader")


def _config(root: Path, **dataset) -> Config:
    fields = dict(data_root=str(root), data_prefix=dict(img="imgs/"), ann_file="labels.json")
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=fields | dataset)),
            val_dataloader=None,
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "labels.json").touch()
    return tmp_path


def test_complete_data_pass(folder: Path):
    check_data(_config(folder), LOADERS)
    check_data(_config(folder, data_prefix="imgs", ann_file=""), LOADERS)


def test_a_missing_root_is_named_with_its_field_and_the_remedy(tmp_path: Path):
    field = "train_dataloader.dataset.dataset.data_root"
    with pytest.raises(FileNotFoundError, match=rf"gone' \({field}\).*--cfg-options {field}=DIR"):
        check_data(_config(tmp_path / "gone"), LOADERS)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (dict(data_prefix=dict(img="jpg")), r"jpg' .*data_prefix\.img"),
        (dict(data_prefix="jpg"), r"jpg' .*data_prefix\)"),
        (dict(ann_file="a.json"), r"a\.json' .*ann_file"),
    ],
)
def test_a_missing_part_is_named_with_its_field(folder: Path, dataset: dict, message: str):
    with pytest.raises(FileNotFoundError, match=message):
        check_data(_config(folder, **dataset), LOADERS)


def test_the_annotations_of_an_evaluator_are_looked_for_too(folder: Path):
    cfg = _config(folder)
    cfg.val_dataloader = dict(dataset=dict(data_root=str(folder)))
    cfg.val_evaluator = dict(type="CocoMetric", ann_file=str(folder / "val.json"))
    with pytest.raises(FileNotFoundError, match=r"val\.json' \(val_evaluator\.ann_file\)"):
        check_data(cfg, LOADERS)


def test_remote_data_are_not_looked_for(folder: Path):
    check_data(_config(Path("."), data_root="s3://bucket/data"), LOADERS)


def test_missing_scenes_of_the_demo_are_answered_by_the_command_that_writes_them(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"not in .*shapes/coco.*`milan-mm make_shapes`"):
        check_data(_config(tmp_path / "shapes" / "coco"), LOADERS)
