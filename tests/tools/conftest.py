"""Calling the tools as a user does: in this process where possible, which saves their imports."""

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

from tests.helpers import forget_runs
from tests.warm import WarmPopen

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@cache
def defined_by(name: str) -> dict:
    """What tools/NAME.py defines."""
    return runpy.run_path(str(TOOLS / f"{name}.py"))


@pytest.fixture
def call() -> Callable[..., None]:
    """Call a tool by name in this process: `call("knn", "--weights", file)`."""

    def run(name: str, *arguments: object) -> None:
        forget_runs()  # mmengine names them by config and second
        defined_by(name)["main"]([str(argument) for argument in arguments])

    return run


@pytest.fixture
def error_of(call: Callable[..., None], capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Call a tool, expect exit code 2, and return the last line on stderr."""

    def run(name: str, *arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            call(name, *arguments)
        assert stop.value.code == 2
        return capfd.readouterr().err.splitlines()[-1]

    return run


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and tests that a tool or torchrun starts need not import the frameworks again."""
    monkeypatch.setattr(subprocess, "Popen", WarmPopen)
    monkeypatch.setattr(subprocess_handler, "Popen", WarmPopen)


def _run(
    start: type[subprocess.Popen], script: str, *arguments: object, expect: int = 0
) -> subprocess.CompletedProcess:
    """Run a script of tools/, and expect an exit code."""
    command = ["bash" if script.endswith(".sh") else sys.executable, str(TOOLS / script)]
    command += map(str, arguments)
    env = os.environ | dict(PYTHON=sys.executable, OMP_NUM_THREADS="1")
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with start(command, env=env, text=True, **pipes) as running:
        try:
            out, errors = running.communicate(timeout=600)
        finally:
            running.kill()
    assert running.returncode == expect, out[-2000:] + errors[-2000:]
    return subprocess.CompletedProcess(command, expect, out, errors)


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess]:
    """Run a script of tools/ in a process of its own, and expect an exit code."""
    return partial(_run, subprocess.Popen)


@pytest.fixture
def warm_process() -> Callable[..., subprocess.CompletedProcess]:
    """The same in a process that need not import the frameworks again."""
    return partial(_run, WarmPopen)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
