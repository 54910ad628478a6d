"""Tracked trainings as a user starts them: on two processes, and mistakes in one line."""

from pathlib import Path

import pytest

from tests.run.pretraining_runs import labelled_images, logged, pretraining_config
from tests.tools.conftest import TOOLS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with labelled images and a small pretraining config."""
    monkeypatch.chdir(tmp_path)
    labelled_images(tmp_path / "images")
    cfg = pretraining_config(Path("images"), Path("run"))
    cfg.env_cfg = dict(dist_cfg=dict(backend="nccl"))
    cfg.pop("work_dir")
    cfg.dump("tiny.py")
    return tmp_path


@pytest.mark.long
def test_two_processes_log_the_accuracies_of_one_and_write_once(folder, warm, warm_process):
    options = ("--tensorboard", "--knn-data", "images", "--knn-interval", 1, "--knn-limit", 23)
    warm_process("train.py", "tiny.py", "--work-dir", "one", *options)
    words = ("--standalone", "--nproc-per-node", 2, TOOLS / "train.py", "--launcher", "pytorch")
    warm_process("_torchrun.py", *words, "tiny.py", "--work-dir", "two", *options)
    one, two = (
        [line for line in logged(folder / name) if "knn/top1" in line] for name in ("one", "two")
    )
    assert [line["epoch"] for line in one] == [0, 1, 2]
    assert [line["knn/top1"] for line in two] == pytest.approx([line["knn/top1"] for line in one])
    assert len(list(Path("two/tensorboard").iterdir())) == 1
    first, second = (logged(folder / name)[1] for name in ("one", "two"))
    assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)  # of both parts


def test_labelled_images_that_are_missing_are_told_before_anything_is_written(folder, error_of):
    error = error_of("train", "tiny.py", "--knn-data", "gone")
    assert error.startswith("error: data folder 'gone' does not exist: give --knn-data a folder")
    assert not Path("work_dirs").exists()


def test_an_option_without_a_value_takes_the_default_project(folder):
    from milan_mm.run.tracking import Tracking
    from tests.tools.conftest import defined_by

    args = defined_by("train")["parse_args"](["tiny.py", "--wandb", "--mlflow", "name"])
    assert Tracking.of(args) == Tracking(wandb="milan_mm", mlflow="name")
