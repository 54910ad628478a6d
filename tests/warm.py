"""Python scripts in processes of their own that need not import the frameworks again."""

import atexit
import faulthandler
import importlib
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers import forget_runs


class WarmPopen(subprocess.Popen):
    """Runs a Python script in a fork of this process, and any other command as ever.

    To import torch and the OpenMMLab packages takes six seconds of a processor, which a test of a
    whole run does not look at. Arguments, environment, folder, output and exit code are those of a
    script that Python was started for.
    """

    def __init__(self, args: Any, *more: Any, **settings: Any) -> None:
        words = [] if isinstance(args, str) else [str(word) for word in args if word != "-u"]
        if words[:1] == [sys.executable] and words[1].endswith(".py"):
            environment = dict(settings.get("env") or os.environ)
            settings["preexec_fn"] = partial(_run, words[1:], environment)
        super().__init__(args, *more, **settings)


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be the script, until its end: what follows in `Popen` would start Python."""
    _let_go_of_files()
    code = 1
    try:
        _forget_the_tests(environment)
        sys.argv[:] = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _let_go_of_files() -> None:
    """Close the files of the parent, for one of which `Popen` waits, but keep their numbers valid.

    Tensors in shared memory that were inherited close theirs when they are collected, and torch
    ends a process in which that fails.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != nothing:
            os.dup2(nothing, number, inheritable=False)


def _forget_the_tests(environment: Mapping[str, str]) -> None:
    """Leave nothing of pytest and of earlier runs but what was imported."""
    atexit._clear()
    faulthandler.disable()
    # of this process's loaders, which workers that lose the new one would remove
    multiprocessing.current_process()._config.pop("tempdir", None)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    importlib.reload(warnings)  # with Python's own filters
    logging.root.handlers.clear()
    forget_runs()
