"""A real warning to a real batch job; `benchmarks/reliability/` sends all signals to all tasks."""

from pathlib import Path

import pytest

from benchmarks.reliability import signals, slurm
from benchmarks.reliability.small_recipes import write_images


@pytest.mark.long
def test_a_batch_job_goes_on_by_itself_until_the_training_is_complete(tmp_path: Path):
    write_images(tmp_path / "images")
    recipe = signals.write_recipe("pretrain", tmp_path / "images", tmp_path)
    job = slurm.Slurm(tmp_path, number=1)
    options = ["--work-dir", str(tmp_path / "run"), "--batch-per-gpu", "8"]
    codes = slurm.run_job(job, [str(recipe), *options], tmp_path / "log", warnings=1)
    assert codes == [75, 0], (tmp_path / "log").read_text()[-2000:]
    assert signals.newest(tmp_path / "run").name == f"iter_{signals.UPDATES}.pth"
