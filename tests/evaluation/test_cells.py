"""Cells know their recipe, what they have done, and how their training is split."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.evaluation import cells as evaluation
from milan_mm.evaluation.cells import Cell, Encoder, commands, training_job
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.recognising import recognise
from tests.helpers import tiny_vit

SHAPE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)
READ = recognise(tiny_vit().state_dict(), "mae.pth", num_heads=4)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """Detection with the batch of the paper's protocol."""
    config = tmp_path / "coco_paper.py"
    Config(
        dict(
            total_batch=64,
            train_dataloader=dict(batch_size=8),
            train_cfg=dict(max_iters=1000),
        )
    ).dump(config)
    return Cell(
        encoder=Encoder("MAE", "mae.pth", "0a" * 32, SHAPE, READ),
        task="coco",
        seed=0,
        name="det/recipe",
        config=config,
        work_dir=tmp_path / "run",
        config_hash="c",
        protocol_hash="p",
        protocol="paper",
        total_batch=64,
        precision=None,
        data="COCO",
        data_counts=dict(train=10, val=5),
        num_iters=1000,
        gpus=8,
    )


def write_run(cell: Cell, checkpoint: str, max_iters: int) -> None:
    """What a training of the cell leaves behind."""
    cell.work_dir.mkdir(exist_ok=True)
    (cell.work_dir / checkpoint).touch()
    (cell.work_dir / "last_checkpoint").write_text(str(cell.work_dir / checkpoint))
    Config(dict(train_cfg=dict(max_iters=max_iters))).dump(cell.work_dir / cell.config.name)


def test_the_rest_of_the_batch_is_accumulated_and_counted(cell):
    assert training_job(cell, 8).num_iters == 1000
    assert training_job(cell, 8).arguments == []
    assert training_job(cell, 1).num_iters == 8 * 1000
    job = training_job(cell, 4, batch_per_gpu=2)
    assert (job.num_iters, job.num_processes) == (8 * 1000, 4)
    assert job.arguments == ["--batch-per-gpu", "2"]


def test_a_batch_that_does_not_split_is_refused(cell):
    with pytest.raises(ValueError, match="total_batch 64 cannot be split evenly over 3"):
        training_job(cell, 3)


def test_a_training_is_done_when_its_own_schedule_has_ended(cell):
    assert not cell.is_trained
    write_run(cell, "iter_1000.pth", max_iters=8000)  # of a run that accumulates 8 parts
    assert not cell.is_trained
    write_run(cell, "iter_8000.pth", max_iters=8000)
    assert cell.is_trained


def test_an_interrupted_training_goes_on(cell):
    write_run(cell, "iter_500.pth", max_iters=1000)
    assert training_job(cell, 8).arguments == ["--resume"]


def test_commands_name_the_gpus_of_the_recipe(cell):
    words = commands(cell, "torchrun", "").split()
    assert words[0] == "bash" and words[1].endswith("tools/dist_train.sh")
    assert words[2:] == [str(cell.config), "8", "--work-dir", str(cell.work_dir), "--resume"]
    words = commands(cell, "slurm", "big").split()
    assert words[2:6] == ["big", "run", str(cell.config), "8"]


def test_what_the_test_prints_becomes_percent(cell, monkeypatch):
    printed = "coco/bbox_mAP: 0.503\ncoco/bbox_mAP_50: 0.7\ncoco/segm_mAP: nan\n"
    monkeypatch.setattr(evaluation, "_run", lambda *_: printed)
    assert evaluation.measure(cell) == {"box AP": 50.3, "mask AP": None}


def test_a_metric_that_is_not_printed_is_a_failure_and_no_number(cell, monkeypatch):
    monkeypatch.setattr(evaluation, "_run", lambda *_: "coco/bbox_mAP: 0.503\n")
    with pytest.raises(RuntimeError, match=r"printed no coco/segm_mAP, see .*test\.log"):
        evaluation.measure(cell)


@pytest.mark.parametrize(
    ("wrapper", "precision"),
    [("milan_mm.BFloat16OptimWrapper", "bfloat16"), ("OptimWrapper", "float32")],
)
def test_the_precision_is_that_of_the_training_wherever_it_was_run(cell, wrapper, precision):
    cell.work_dir.mkdir()
    Config(dict(optim_wrapper=dict(type=wrapper))).dump(cell.work_dir / cell.config.name)
    (row,) = evaluation.result_rows(cell, {"box AP": 50.3}, 1.0)
    assert row["precision"] == precision


def test_a_cell_is_finished_when_weights_task_config_data_and_seed_agree(cell):
    row = dict(weights_sha256="0a" * 32, task="coco", data="COCO", config_hash="c", seed=0)
    row["data_counts"] = dict(val=5, train=10)
    assert cell.is_in([row])
    for change in (
        dict(weights_sha256="0b" * 32),
        dict(task="ade20k"),
        dict(data="cars"),
        dict(data_counts=dict(train=10, val=6)),  # a subset that has grown since
        dict(config_hash="d"),
        dict(seed=1),
    ):
        assert not cell.is_in([row | change])
    assert not cell.is_in([])
