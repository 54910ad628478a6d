"""dist_train.sh: torchrun's options, one line for what went wrong, several machines as one job."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.reliability.trials import TOOLS, Trial, training
from milan_mm.run import reasons

FAILING = """
import os, sys, time
from milan_mm.run.errors import user_errors
with user_errors():
    if os.environ["RANK"] == "1":
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), 9)
        raise KeyError("a defect")
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, "--standalone"),
        ({"PORT": "29511"}, "--rdzv-backend c10d --rdzv-endpoint 127.0.0.1:29511"),
        (
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "a", "PORT": "7"},
            "--nnodes 2 --rdzv-backend static --node-rank 1 --master-addr a --master-port 7",
        ),
        (
            {"NNODES": "2", "MASTER_ADDR": "a", "MAX_RESTARTS": "3"},
            "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint a:29500",
        ),
        (
            {"NNODES": "1:2", "RDZV_ENDPOINT": "a:7", "RDZV_ID": "job"},
            "--nnodes 1:2 --rdzv-backend c10d --rdzv-endpoint a:7 --rdzv-id job",
        ),
        (
            {"NNODES": "2", "RDZV_BACKEND": "etcd-v2", "RDZV_ENDPOINT": "a:7"},
            "--nnodes 2 --rdzv-backend etcd-v2 --rdzv-endpoint a:7",
        ),
        ({"MAX_RESTARTS": "2", "LOG_DIR": "logs"}, "--max-restarts 2 --log-dir logs --tee 3"),
    ],
)
def test_torchruns_options_pass_through(settings: dict[str, str], options: str):
    done = subprocess.run(
        ["bash", str(TOOLS / "dist_train.sh"), "c.py", "8", "--resume"],
        env={"PATH": os.environ["PATH"], "PYTHON": "echo"} | settings,
        capture_output=True,
        text=True,
    )
    assert f" {options} " in done.stdout
    assert done.stdout.strip().endswith(
        "--nproc-per-node 8 " + str(TOOLS / "train.py") + " c.py --resume --launcher pytorch"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"NNODES": "two"}, "error: NNODES is 'two': give the number of machines, or MIN:MAX"),
        ({"NNODES": "2"}, "set NODE_RANK"),
        ({"NNODES": "2", "NODE_RANK": "2"}, "NODE_RANK is '2': number the 2 machines from 0"),
        ({"NNODES": "1:2", "MASTER_ADDR": "a"}, "the number of machines may change: pass --resume"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, str], message: str):
    done = subprocess.run(
        ["bash", str(TOOLS / "dist_train.sh"), "c.py", "8"],
        env={"PATH": os.environ["PATH"], "PYTHON": "echo"} | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode and message in done.stderr


@pytest.mark.parametrize(
    ("how", "code", "last"),
    [
        ("kill", 137, "was ended by SIGKILL, often since memory ran out"),
        ("defect", 1, "error: process 1 of 2 failed, its traceback is above: KeyError: 'a defect'"),
    ],
)
def test_the_first_process_that_failed_has_the_last_line(
    tmp_path: Path, process: Callable, monkeypatch, repo_root, how: str, code: int, last: str
):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(repo_root))
    monkeypatch.delenv(reasons.FOLDER, raising=False)
    options = ("--standalone", "--nproc-per-node", 2, tmp_path / "failing.py", how)
    done = process("_torchrun.py", *options, expect=code)
    lines = done.stderr.splitlines()
    assert last in lines[-1] and lines[-1].startswith("error: process 1 of 2")
    assert done.stderr.count("error: process") == 1 and "Root Cause" not in done.stderr


def _machines(folder: Path, port: int, **environment: str) -> list[Trial]:
    """Two launchers of one process each."""
    settings = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT=str(port), **environment)
    trials = []
    for rank in ("0", "1"):
        trial = training(folder, 2, "--work-dir", "two", NODE_RANK=rank, **settings)
        trial.command = ["1" if word == "2" else word for word in trial.command]
        trials.append(trial)
    return trials


@pytest.mark.long
def test_two_launchers_train_as_one_job_and_a_killed_process_changes_nothing(
    tmp_path: Path, free_port: int
):
    whole = training(tmp_path, 2, "--work-dir", "one")
    assert whole.run() == 0, whole.output
    trials = _machines(tmp_path, free_port, MAX_RESTARTS="1", FAULT="kill@train@1")
    running = [trial.start() for trial in trials]
    assert [process.wait(300) for process in running] == [0, 0], trials[0].output
    assert "resumes two/epoch_1.pth after update 4 of 8" in trials[0].output + trials[1].output
    one, two = (
        torch.load(tmp_path / name / "epoch_2.pth", weights_only=False)["state_dict"]
        for name in ("one", "two")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(trial.orphans(10) for trial in (whole, *trials))
