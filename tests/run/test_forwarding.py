"""Launchers of a few lines, whose processes are shells, get real signals."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from torch.distributed.run import get_args_parser

from milan_mm.run import forwarding

# what started the tests may ignore some signals, and a launcher would leave it so
LAUNCHER = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from milan_mm.errors import Stopped
from milan_mm.run import forwarding
forwarding.SECONDS_APART = 0.5
forwarding.forward_signals()
try:
    processes = [subprocess.Popen(["bash", "-c", text]) for text in sys.argv[1:]]
    while any(process.poll() is None for process in processes):
        time.sleep(0.1)
except Stopped as stop:
    sys.exit(stop.code)
sys.exit(9)
"""
# a shell that takes a second to save, and says which signal it got
SAVES = "trap 'sleep 1; echo {0}; exit {1}' {0}; echo ready; while :; do sleep 0.1; done"
HANGS = "trap '' TERM USR1; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def launch() -> Callable[..., tuple[int, list[str]]]:
    """Start processes, send their launcher a signal, return its exit code and what they said."""

    def run(name: str, *processes: str) -> tuple[int, list[str]]:
        words = [sys.executable, "-c", LAUNCHER, *processes]
        launcher = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        lines = [launcher.stdout.readline() for _ in processes]
        launcher.send_signal(signal.Signals[name])
        return launcher.wait(30), [*lines, *launcher.stdout.read().splitlines()][len(processes) :]

    return run


@pytest.mark.parametrize(("name", "code"), [("TERM", 75), ("HUP", 75), ("INT", 130)])
def test_processes_get_the_signal_and_the_time_to_save_and_their_code_is_the_launchers(
    launch, name, code
):
    saves = SAVES.format(name, code)
    assert launch(f"SIG{name}", saves, saves) == (code, [name, name])


def test_a_process_that_has_finished_hurries_none(launch):
    ends = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    assert launch("SIGTERM", ends, SAVES.format("TERM", 0)) == (9, ["TERM"])


def test_torchrun_does_not_take_the_signal_that_nohup_ignores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forwarding, "SIGNALS", ())
    monkeypatch.setenv("PET_SIGNALS_TO_HANDLE", "")
    monkeypatch.delenv("PET_SIGNALS_TO_HANDLE")
    forwarding.forward_signals()
    assert get_args_parser().parse_args(["x.py"]).signals_to_handle == "SIGQUIT"


def test_a_process_that_failed_is_not_waited_for_by_the_others_for_ever(launch):
    assert launch("SIGTERM", SAVES.format("TERM", 1), HANGS) == (1, ["TERM"])
