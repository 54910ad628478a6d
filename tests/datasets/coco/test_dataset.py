"""Our COCO data set gives the samples of mmdet's, from a file that is parsed once."""

import json
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset as MMDetCocoDataset

from milan_mm.datasets.coco import reading as coco_reading
from milan_mm.datasets.coco.dataset import CocoDataset
from milan_mm.datasets.coco.reading import read_coco
from milan_mm.registry import DATASETS
from tests.datasets.coco.test_file import CONTENT

SETTINGS = dict(metainfo=dict(classes=("cat", "dog")), pipeline=[], data_prefix=dict(img="b/"))


def write(folder: Path, encoding: str = "utf-8") -> Path:
    others = [dict(id=8, iscrowd=1), dict(id=9, area=0), dict(id=10, category_id=3, image_id=2)]
    first = CONTENT["annotations"][0]
    annotations = CONTENT["annotations"] + [first | other for other in others]
    path = folder / "instances.json"
    path.write_text(json.dumps(CONTENT | dict(annotations=annotations)), encoding)
    return path


def is_kept(path: Path) -> bool:
    return str(path.resolve()) in {key[0] for key in coco_reading._kept}


@pytest.fixture
def parsed(monkeypatch) -> list[Path]:
    """The files that were parsed."""
    paths: list[Path] = []
    parse = coco_reading._parse
    monkeypatch.setattr(coco_reading, "_parse", lambda path: paths.append(path) or parse(path))
    return paths


@pytest.mark.parametrize(
    "settings",
    [
        dict(filter_cfg=dict(filter_empty_gt=True, min_size=0)),
        dict(filter_cfg=dict(min_size=100)),
        dict(test_mode=True),
        dict(indices=2, lazy_init=True),
    ],
)
def test_samples_are_those_of_mmdet(tmp_path, settings):
    path = str(write(tmp_path))
    ours, theirs = (
        kind(ann_file=path, serialize_data=False, **SETTINGS, **settings)
        for kind in (CocoDataset, MMDetCocoDataset)
    )
    ours.full_init(), theirs.full_init()
    assert ours.data_list == theirs.data_list
    assert ours.metainfo == theirs.metainfo


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_are_read(tmp_path, encoding):
    assert len(CocoDataset(ann_file=str(write(tmp_path, encoding)), **SETTINGS)) == 3


def test_the_training_takes_what_was_read_and_nothing_is_kept(tmp_path, parsed):
    path = write(tmp_path)
    read_coco(path)
    CocoDataset(ann_file=str(path), **SETTINGS)
    assert parsed == [path]
    assert not is_kept(path)


def test_an_evaluation_parses_its_file_once_for_data_set_and_metric(tmp_path, parsed):
    from milan_mm.evaluation.coco_metric import CocoMetric

    path = write(tmp_path)
    read_coco(path)
    CocoDataset(ann_file=str(path), test_mode=True, **SETTINGS)
    CocoMetric(ann_file=str(path))
    assert parsed == [path]
    assert not is_kept(path)


def test_a_config_finds_the_data_set_by_its_scope():
    assert DATASETS.get("milan_mm.CocoDataset") is CocoDataset
