"""Cells know their recipe, what they have done, and how their training is split."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from milan_mm.evaluation import trained_cells
from milan_mm.evaluation.candidates import Candidate
from milan_mm.evaluation.grid import is_in
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.trained_cells import TrainedCell
from milan_mm.models.vit_options import ARCHS
from milan_mm.run.metrics import write_metrics
from milan_mm.weights.recognising import recognise
from tests.helpers import tiny_vit

SHAPE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)
READ = recognise(tiny_vit().state_dict(), "mae.pth", num_heads=4)


@pytest.fixture
def cell(tmp_path: Path) -> TrainedCell:
    """Detection with the batch of the paper's protocol."""
    config = tmp_path / "coco_paper.py"
    Config(
        dict(
            total_batch=64,
            train_dataloader=dict(batch_size=8),
            train_cfg=dict(max_iters=1000),
        )
    ).dump(config)
    return TrainedCell(
        candidate=Candidate("MAE", "mae.pth", "0a" * 32, SHAPE, READ),
        task="coco",
        seed=0,
        recipe="det/recipe",
        config=config,
        work_dir=tmp_path / "run",
        config_hash="c",
        protocol_hash="p",
        protocol="paper",
        total_batch=64,
        data="COCO",
        data_counts=dict(train=10, val=5),
        data_hash=dict(train="a", val="b"),
        num_iters=1000,
        recipe_gpus=8,
    )


def write_run(cell: TrainedCell, checkpoint: str, max_iters: int) -> None:
    """What a training of the cell leaves behind."""
    cell.work_dir.mkdir(exist_ok=True)
    meta = dict(iter=int(checkpoint.removeprefix("iter_").removesuffix(".pth")))
    torch.save(dict(meta=meta), cell.work_dir / checkpoint)
    (cell.work_dir / "last_checkpoint").write_text(str(cell.work_dir / checkpoint))
    Config(dict(train_cfg=dict(max_iters=max_iters), optim_wrapper={})).dump(
        cell.work_dir / cell.config.name
    )


def test_the_rest_of_the_batch_is_accumulated_and_counted(cell):
    whole = replace(cell, num_processes=8).job
    assert (whole.num_iters, whole.arguments) == (1000, [])
    assert cell.job.num_iters == 8 * 1000
    job = replace(cell, num_processes=4, batch_per_gpu=2).job
    assert (job.num_iters, job.num_processes) == (8 * 1000, 4)
    assert job.arguments == ["--batch-per-gpu", "2"]


def test_earlier_starts_are_counted_by_their_logs_which_may_be_copies(cell):
    line = "2026/01/31 {}:00 - mmengine - INFO - Iter(train) [ 50/1000]\n  a table\n"
    for name, times in (
        ("20260131_120000", ["12:01", "12:05"]),
        ("20260131_130000", ["13:07"]),
        ("20260131_140000", []),  # killed before its first line
        ("test/20260131_150000", ["15:09"]),
    ):
        log = cell.work_dir / name / f"{Path(name).name}.log"
        log.parent.mkdir(parents=True)
        log.write_text("".join(map(line.format, times)))  # now, not in January
    assert cell.earlier_seconds == (5 + 7) * 60


def test_a_batch_that_does_not_split_is_refused(cell):
    with pytest.raises(ValueError, match="total_batch 64 cannot be split evenly over 3"):
        _ = replace(cell, num_processes=3).job


def test_a_training_is_done_when_its_own_schedule_has_ended(cell):
    assert not cell.is_trained
    write_run(cell, "iter_1000.pth", max_iters=8000)  # of a run that accumulates 8 parts
    assert not cell.is_trained
    write_run(cell, "iter_8000.pth", max_iters=8000)
    assert cell.is_trained and cell.job is None


def test_an_interrupted_training_goes_on(cell):
    write_run(cell, "iter_500.pth", max_iters=1000)
    assert replace(cell, num_processes=8).job.arguments == ["--resume"]


def test_commands_name_the_gpus_of_the_recipe(cell):
    words = cell.command("torchrun", "").split()
    assert words[0] == "bash" and words[1].endswith("tools/dist_train.sh")
    assert words[2:] == [str(cell.config), "8", "--work-dir", str(cell.work_dir), "--resume"]
    words = cell.command("slurm", "big").split()
    assert words[2:6] == ["big", "run", str(cell.config), "8"]


def test_trainings_and_commands_carry_the_trackers(cell):
    tracked = replace(cell, trackers=("--tensorboard", "--wandb", "project"))
    assert tracked.job.arguments == [*tracked.trackers]
    assert tracked.command("torchrun", "").endswith(" --resume --tensorboard --wandb project")


def test_commands_carry_the_gpus_and_the_batch_that_the_user_gave(cell):
    words = replace(cell, batch_per_gpu=32).command("slurm", "big", 16).split()
    assert words[2:6] == ["big", "run", str(cell.config), "16"]
    assert words[-2:] == ["--batch-per-gpu", "32"]


@pytest.fixture
def measured(cell, monkeypatch) -> dict[str, float]:
    """What the test of the cell, which takes no time, writes to its metrics file."""
    write_run(cell, "iter_1000.pth", max_iters=1000)
    metrics = {"coco/bbox_mAP": 0.503, "coco/bbox_mAP_50": 0.7, "coco/segm_mAP": float("nan")}

    def run_tool(title: str, name: str, arguments: list[str], log: Path) -> None:
        assert name == "test.py"
        write_metrics(arguments[arguments.index("--out") + 1], metrics)

    monkeypatch.setattr(trained_cells, "run_tool", run_tool)
    return metrics


def test_what_the_test_measures_becomes_percent(cell, measured):
    assert {row["metric"]: row["value"] for row in cell.rows()} == {"box AP": 50.3, "mask AP": None}


def test_the_interval_of_miou_is_in_its_row(cell, measured):
    measured.update(mIoU=48.12, mIoU_low=46.5, mIoU_high=49.75)
    (row,) = replace(cell, task="ade20k", data="ADE20K").rows()
    assert (row["value"], row["interval"]) == (48.12, [46.5, 49.75])
    assert all("interval" not in row for row in cell.rows())


def test_an_ap_of_minus_one_is_undefined(cell, measured):
    measured["coco/segm_mAP"] = -1.0  # what evaluators write where there is nothing to find
    assert {row["metric"]: row["value"] for row in cell.rows()} == {"box AP": 50.3, "mask AP": None}


def test_a_metric_that_is_not_measured_is_a_failure_and_no_number(cell, measured):
    del measured["coco/segm_mAP"]
    with pytest.raises(RuntimeError, match=r"has no 'coco/segm_mAP', see .*test\.log"):
        cell.rows()


@pytest.mark.parametrize(
    ("wrapper", "precision"),
    [("milan_mm.BFloat16OptimWrapper", "bfloat16"), ("OptimWrapper", "float32")],
)
def test_the_precision_is_that_of_the_training_wherever_it_was_run(
    cell, measured, wrapper, precision
):
    Config(dict(optim_wrapper=dict(type=wrapper))).dump(cell.work_dir / cell.config.name)
    assert {row["precision"] for row in cell.rows()} == {precision}


@pytest.mark.parametrize(("num_classes", "top5"), [(3, None), (5, 93.5)])
def test_top_5_of_fewer_classes_is_undefined(cell, measured, num_classes, top5):
    Config(dict(model=dict(head=dict(num_classes=num_classes)))).dump(cell.config)
    measured["accuracy/top1"] = 81.0
    measured |= {} if top5 is None else {"accuracy/top5": top5}
    rows = replace(cell, task="linear").rows()
    assert [(row["metric"], row["value"]) for row in rows] == [("top-1", 81.0), ("top-5", top5)]


def test_a_cell_is_finished_when_weights_task_config_data_and_seed_agree(cell):
    row = dict(weights_sha256="0a" * 32, task="coco", data="COCO", config_hash="c", seed=0)
    row |= dict(data_counts=dict(val=5, train=10), data_hash=dict(val="b", train="a"))
    assert is_in(cell, [row])
    for change in (
        dict(weights_sha256="0b" * 32),
        dict(task="ade20k"),
        dict(data="cars"),
        dict(data_counts=dict(train=10, val=6)),  # a subset that has grown since
        dict(data_hash=dict(train="a", val="other photos")),
        dict(config_hash="d"),
        dict(seed=1),
    ):
        assert not is_in(cell, [row | change])
    assert not is_in(cell, [])


@pytest.mark.parametrize(("data", "finished"), [("COCO", True), ("photos", False)])
def test_a_row_of_version_0_1_counts_where_its_name_says_which_data(cell, data, finished):
    cell = replace(cell, data=data)
    row = {key: value for key, value in cell.identity.items() if key != "data_hash"}
    assert is_in(cell, [row]) == finished
