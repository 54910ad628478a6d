"""Real signals to real processes; `benchmarks/reliability/` sends all of them to all tasks."""

from pathlib import Path

import pytest

from benchmarks.reliability import signals, slurm
from benchmarks.reliability.small_recipes import write_images

pytestmark = pytest.mark.long


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A pretraining of 30 updates, with two data-loading workers."""
    write_images(tmp_path / "images")
    return signals.write_recipe("pretrain", tmp_path / "images", tmp_path)


def test_two_processes_and_their_workers_outlive_a_signal_until_all_is_saved(
    recipe: Path, tmp_path: Path
):
    code, saved, said = signals.stop(recipe, tmp_path, "SIGTERM", processes=2)
    assert code == 75 and len(saved) == 1, said
    assert f"saved {tmp_path / 'SIGTERM' / saved[0]}; the same command" in said


def test_a_batch_job_goes_on_by_itself_until_the_training_is_complete(recipe: Path, tmp_path: Path):
    job = slurm.Slurm(tmp_path, number=1)
    options = ["--work-dir", str(tmp_path / "run"), "--batch-per-gpu", "8"]
    codes = slurm.run_job(job, [str(recipe), *options], tmp_path / "log", warnings=1)
    assert codes == [75, 0], (tmp_path / "log").read_text()[-2000:]
    assert signals.newest(tmp_path / "run").name == f"iter_{signals.UPDATES}.pth"
