"""dist_train.sh: torchrun's options, one line for what went wrong, several machines as one job."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.reliability.trials import TOOLS, Trial
from milan_mm.lifetime import LAUNCHERS_FOLDER

# Processes that import nothing heavy: what a training leaves there is in tests/run/test_reasons.py.
FAILING = """
import os, sys, time
from milan_mm.run.reasons import DEFECT, leave
if os.environ["RANK"] == "1":
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), 9)
    leave(DEFECT, "KeyError: 'a defect'")
    sys.exit(1)
time.sleep(60)
"""
JOINING = """
import os, sys
import torch
from torch import distributed
from milan_mm.run.reasons import is_restart
is_second = is_restart()
distributed.init_process_group("gloo")
if os.environ["RANK"] == "1" and not is_second:
    os.kill(os.getpid(), 9)
total = torch.tensor(int(os.environ["RANK"]) + 1)
distributed.all_reduce(total)
open("rank " + os.environ["RANK"], "w").write(f"{int(total)} {is_second}")
distributed.destroy_process_group()
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
        ("kill", 137, "was ended by SIGKILL, often because memory ran out"),
        ("defect", 1, "error: process 1 of 2 failed, its traceback is above: KeyError: 'a defect'"),
    ],
)
def test_the_first_process_that_failed_has_the_last_line(
    tmp_path: Path, process: Callable, monkeypatch, repo_root, how: str, code: int, last: str
):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", str(repo_root))
    monkeypatch.delenv(LAUNCHERS_FOLDER, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    options = ("--standalone", "--nproc-per-node", 2, tmp_path / "failing.py", how)
    done = process("_torchrun.py", *options, expect=code)
    lines = done.stderr.splitlines()
    assert last in lines[-1] and lines[-1].startswith("error: process 1 of 2")
    assert done.stderr.count("error: process") == 1 and "Root Cause" not in done.stderr
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.long
def test_two_launchers_are_one_job_whose_processes_start_again_together(
    tmp_path: Path, free_port: int
):
    (tmp_path / "joining.py").write_text(JOINING)
    where = f"--nnodes 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{free_port} --rdzv-id x"
    options = [*where.split(), "--max-restarts", "1", "--nproc-per-node", "1", "joining.py"]
    command = [sys.executable, str(TOOLS / "_torchrun.py"), *options]
    trials = [Trial(tmp_path, command) for _ in range(2)]
    running = [trial.start() for trial in trials]
    assert [process.wait(120) for process in running] == [0, 0], trials[0].output
    assert [(tmp_path / f"rank {rank}").read_text() for rank in range(2)] == ["3 True"] * 2
    assert not any(trial.orphans(10) for trial in trials)
