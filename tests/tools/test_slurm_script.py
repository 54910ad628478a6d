"""tools/slurm_train.sh as a batch job, with srun and scontrol of two lines."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SRUN = 'echo "srun $*"; echo "meets at $MASTER_ADDR:$MASTER_PORT"; eval "$SRUN_DOES"\n'
SCONTROL = 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; else echo "scontrol $*"; fi\n'
JOB = dict(SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="node[7-8]")


@pytest.fixture
def submit(tmp_path: Path, repo_root: Path) -> Callable[..., tuple[int, list[str]]]:
    """Run the script as sbatch does, as a copy; returns its exit code and its lines."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/usr/bin/env bash\n{text}")
        program.chmod(0o755)
    script = shutil.copy(repo_root / "tools/slurm_train.sh", tmp_path / "slurm_script")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def run(*arguments: str, does: str = "exit 0", send: str = "") -> tuple[int, list[str]]:
        job = subprocess.Popen(
            ["bash", script, *arguments],
            env=os.environ | JOB | dict(PATH=path, PYTHON="python", SRUN_DOES=does),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
        )
        lines = []
        if send:
            while "ready\n" not in lines:
                lines.append(job.stdout.readline())
            job.send_signal(signal.Signals[send])
        said = "".join(lines) + job.communicate(timeout=30)[0]
        return job.returncode, said.splitlines()

    return run


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("", "--resume"),
        ("--epochs 3", "--epochs 3 --resume"),
        ("--quick", "--quick"),
        ("--resume FILE", "--resume FILE"),
        ("--init-from FILE --work-dir new", "--init-from FILE --work-dir new"),
        ("--init-from FILE --work-dir begun --lr 1", "--work-dir begun --lr 1 --resume"),
        ("--work-dir=begun --init-from=FILE", "--work-dir=begun --resume"),
    ],
)
def test_a_job_goes_on_where_it_was(submit, tmp_path: Path, given: str, passed: str):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/last_checkpoint").write_text("epoch_1.pth")
    code, said = submit("CONFIG", *given.split())
    train = f"srun --kill-on-bad-exit=1 python -u -m milan_mm train CONFIG {passed}"
    assert code == 0 and said == [f"{train} --launcher slurm", "meets at node7:23456"]


def test_other_weights_to_start_from_need_a_known_folder(submit):
    code, (error,) = submit("CONFIG", "--init-from", "FILE")
    assert code == 2 and error.startswith("error: --init-from in a job") and "--work-dir" in error


@pytest.mark.parametrize("code", [0, 1, 2, 75, 130, 138])
def test_only_a_training_that_was_stopped_goes_back_into_the_queue(submit, code: int):
    ended, said = submit("CONFIG", does=f"exit {code}")
    assert ended == code and ("scontrol requeue 123456" in said) == (code == 75)


def test_a_warning_to_the_script_is_handed_on(submit):
    does = "trap 'echo warned; exit 75' USR1; echo ready; while :; do sleep 0.05; done"
    code, said = submit("CONFIG", does=does, send="SIGUSR1")
    assert code == 75 and said[-3] == "warned" and said[-1] == "scontrol requeue 123456"


def test_a_job_that_was_cancelled_stays_so(submit):
    code, said = submit("CONFIG", does="echo ready; sleep 0.5; exit 75", send="SIGTERM")
    assert code == 75 and not any("scontrol requeue" in line for line in said)


def test_help_and_mistakes_show_how_it_is_used(submit):
    code, said = submit("--help")
    assert code == 0 and said[2].strip().startswith("sbatch [options of sbatch]")
    assert submit() == (2, said)
