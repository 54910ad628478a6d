"""The job runner starts what it should, hands checkpoints on, and stops after a failure."""

import io
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from milan_mm.errors import Stopped
from milan_mm.run import jobs
from milan_mm.run.jobs import Job, progress_bars, run_jobs

# Writes what tools/train.py writes: a scalar file, a checkpoint, and the name of the last one.
FAKE_TRAIN = """
import json, os, pathlib, signal, sys, time
config, work_dir = sys.argv[1], pathlib.Path(sys.argv[3])
if config == "broken":
    sys.exit("error: the reason")
if config == "stopped":
    sys.exit(75)
if config == "killed":
    os.kill(os.getpid(), signal.SIGTERM)
if config == "slow":
    time.sleep(60)
(work_dir / "now/vis_data").mkdir(parents=True)
(work_dir / "now/vis_data/scalars.json").write_text(json.dumps(dict(loss=1.5, step=3)) + "\\n")
(work_dir / "arguments.txt").write_text(" ".join(sys.argv[4:]))
(work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
"""


@pytest.fixture(autouse=True)
def fake_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tools folder whose train.py takes no time."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/train.py").write_text(FAKE_TRAIN)
    monkeypatch.setattr(jobs, "shipped_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.01)


def _job(folder: Path, name: str, config: str = "fine", **settings) -> Job:
    return Job("pretrain", name, config, folder / name, num_iters=3, **settings)


def test_jobs_are_yielded_in_the_given_order_with_their_logs(tmp_path):
    todo = [_job(tmp_path, name) for name in "cab"]
    done = list(run_jobs(todo, num_parallel=2))
    assert [job.init for job, _ in done] == ["c", "a", "b"]
    assert all(seconds > 0 for _, seconds in done)
    assert todo[0].logged() == [dict(loss=1.5, step=3)]
    assert todo[0].losses() == [1.5]


def test_a_job_knows_the_processor_time_of_its_process_and_of_the_children_of_that(tmp_path):
    (tmp_path / "tools/busy.py").write_text(
        "import subprocess, sys, time\n"
        "busy = 'import time\\nwhile time.process_time() < 0.2: pass'\n"
        "subprocess.run([sys.executable, '-c', busy])\n"
        "exec(busy)\n"
    )
    job = _job(tmp_path, "a", tool="busy.py")
    assert not job.processor_seconds
    ((done, _),) = run_jobs([job], num_parallel=1)
    assert done is job
    assert 0.35 < job.processor_seconds < 5


def test_a_follow_up_starts_from_the_last_checkpoint_of_its_job(tmp_path):
    later = _job(tmp_path, "later", arguments=["--quick"])
    first = _job(tmp_path, "first", follow_up=later)
    assert [job for job, _ in run_jobs([first], num_parallel=1)] == [first]
    arguments = (later.work_dir / "arguments.txt").read_text()
    assert arguments == f"--quick --weights {first.work_dir / 'epoch_1.pth'}"


def test_several_processes_are_started_by_torchrun(tmp_path):
    command = jobs._command(_job(tmp_path, "a", num_processes=4, arguments=["--resume"]))
    words = " ".join(command)
    assert "_torchrun.py --standalone --nproc-per-node 4" in words
    assert words.endswith(f"train.py fine --work-dir {tmp_path / 'a'} --resume --launcher pytorch")


def test_a_failure_names_the_reason_and_the_jobs_that_wait_do_not_start(tmp_path):
    todo = [_job(tmp_path, "a"), _job(tmp_path, "b", "broken"), _job(tmp_path, "c")]
    done = []
    with pytest.raises(
        RuntimeError, match=r"b failed with exit code 1, see .*output\.log(?s:.)*the reason"
    ):
        for job, _ in run_jobs(todo, num_parallel=1):
            done.append(job.init)
    assert done == ["a"]
    assert not (tmp_path / "c").exists()


def test_a_training_that_was_killed_says_by_which_signal(tmp_path):
    with pytest.raises(RuntimeError, match=r"failed with signal SIGTERM, .*\n\(nothing\)"):
        list(run_jobs([_job(tmp_path, "a", "killed")], num_parallel=1))


def test_a_training_that_was_stopped_and_has_saved_has_not_failed(tmp_path):
    todo = [_job(tmp_path, "a", "stopped"), _job(tmp_path, "b")]
    with pytest.raises(Stopped, match="pretrain a was stopped") as stop:
        list(run_jobs(todo, num_parallel=1))
    assert stop.value.code == 75


def test_a_follow_up_of_a_failed_job_does_not_start(tmp_path):
    later = _job(tmp_path, "later")
    with pytest.raises(RuntimeError, match="pretrain first failed"):
        list(run_jobs([_job(tmp_path, "first", "broken", follow_up=later)], num_parallel=1))
    assert not later.work_dir.exists()


def test_jobs_that_run_during_a_failure_finish_and_are_yielded(tmp_path):
    todo = [_job(tmp_path, "bad", "broken"), _job(tmp_path, "good")]
    done = []
    with pytest.raises(RuntimeError, match="pretrain bad failed"):
        for job, _ in run_jobs(todo, num_parallel=2):
            done.append(job.init)
    assert done in ([], ["good"])  # not started, when the other one failed before
    assert (tmp_path / "good").exists() == (done == ["good"])


def test_an_interrupt_ends_the_processes_and_starts_no_further_ones(tmp_path):
    slow = _job(tmp_path, "slow", "slow", follow_up=_job(tmp_path, "later"))
    running = run_jobs([_job(tmp_path, "fast"), slow, _job(tmp_path, "next")], num_parallel=2)
    started = time.monotonic()
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
    assert time.monotonic() - started < 30  # the slow one would take 60 s
    assert not (tmp_path / "later").exists()


def test_times_are_readable_at_80_columns():
    console = Console(width=80, file=io.StringIO())
    bars = progress_bars(console)
    bars.add_task("pretrain row-3-pixel-prompting-uniform", total=184_375, note="loss 10.123")
    console.print(bars.get_renderable())
    (line,) = console.file.getvalue().splitlines()
    assert line.endswith("0/184375 loss 10.123 0:00:00 -:--:--")


def test_a_job_that_is_just_being_started_is_ended_too(tmp_path, monkeypatch):
    workers = jobs._Workers(progress_bars(Console(file=io.StringIO())), [], 1)
    start = subprocess.Popen

    def terminate_meanwhile(*given, **options):
        workers.terminate()
        return start(*given, **options)

    monkeypatch.setattr(jobs.subprocess, "Popen", terminate_meanwhile)
    with pytest.raises(RuntimeError, match="SIGTERM"):
        workers.run_chain(_job(tmp_path, "a", "slow"))
