"""Folders of a recipe's own data are read with every type of images."""

from pathlib import Path

import pytest
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.configs import load
from milan_mm.evaluation.fingerprint import data_counts
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.prepare import TEST, TRAINING, prepare
from milan_mm.run.records.differences import Kind, differences
from milan_mm.run.records.record import record_of
from milan_mm.run.run_options import RunOptions
from tests.run.own_data.folders import write_image

ENDINGS = ("jpg", "JPEG", "webp", "tiff", "png")
RECIPES = dict(
    cls="cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
    pretrain="pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k",
)


def _data(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            for ending in ENDINGS:
                write_image(root / split / name / f"0.{ending}")
    return root


def _recipe(task: str, root: Path):
    cfg = load(RECIPES[task])
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for _, dataset in datasets_of(cfg, loader):
            dataset.data_root = str(root)
    return cfg


@pytest.mark.parametrize("task", RECIPES)
def test_a_training_reads_every_type(tmp_path: Path, task: str):
    cfg = _recipe(task, _data(tmp_path))
    assert data_counts(cfg)["train"] == 2 * len(ENDINGS)  # as an evaluation counts
    prepare(cfg, RunOptions(), TRAINING)
    ((_, dataset),) = datasets_of(cfg, "train_dataloader")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        assert len(DATASETS.build(dict(dataset, pipeline=[]))) == 2 * len(ENDINGS)


def test_a_test_reads_every_type(tmp_path: Path):
    cfg = _recipe("cls", _data(tmp_path))
    prepare(cfg, RunOptions(), TEST)
    ((_, dataset),) = datasets_of(cfg, "test_dataloader")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        assert len(DATASETS.build(dict(dataset, pipeline=[]))) == 2 * len(ENDINGS)


def test_a_checkpoint_of_before_goes_on(tmp_path: Path):
    before, now = (_recipe("cls", _data(tmp_path)) for _ in range(2))
    ((_, dataset),) = datasets_of(now, "train_dataloader")
    dataset.extensions = ENDINGS
    found = differences(record_of(before), record_of(now), "resume")
    assert [d.field for d in found] == ["settings.train_dataloader.dataset.extensions"]
    assert found[0].kind is Kind.HARMLESS
