"""Running a tool on hostile input in a process of its own that may crash, hang or fill the memory.

The process is forked from one that has the libraries, so that a case takes a second.
"""

import faulthandler
import gc
import importlib
import os
import re
import resource
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
MEMORY = 6 * 2**30  # bytes that a case may take beyond what the libraries have
SECONDS = 240  # that a case may take, also on a busy machine
# 0: done, 1: check_data found faults, 2: a mistake of the user, 3: predict skipped pictures
_CODES = (0, 1, 2, 3)
_MODULES = "modules.txt"
_CRASH = re.compile(r"Traceback|ended from outside|killed by signal|out of memory", re.IGNORECASE)
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*[mAK])|[\x00-\x08\x0e-\x1a\u202e]")


@dataclass(frozen=True)
class Outcome:
    """How a tool ended.

    Attributes:
        code: Exit code; negative for a signal. text: What it wrote.
    """

    code: int
    text: str

    @property
    def last(self) -> str:
        """The line that says why."""
        errors = [line for line in self.text.splitlines() if line.startswith("error: ")]
        return (errors or self.text.strip().splitlines() or [""])[-1]

    @property
    def fault(self) -> str:
        """What is wrong with the way it ended; '' for nothing."""
        if self.code not in _CODES:
            return f"exit code {self.code}"
        if found := _CRASH.search(self.text):
            return found[0]
        if found := _CONTROL.search(self.text):
            return f"the terminal obeys {found[0]!r}"
        return "a line of a page" if len(self.last) > 2000 else ""


@cache
def main_of(tool: str) -> object:
    """The function of tools/NAME.py."""
    return runpy.run_path(str(TOOLS / f"{tool}.py"))["main"]


def load_modules(folder: Path) -> None:
    """Import what a tool has imported that ran in a folder, so that the next need not."""
    file = folder / _MODULES
    for name in file.read_text().split() if file.exists() else ():
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all that it looks at


def run(tool: str, arguments: Sequence[object], folder: Path) -> Outcome:
    """Run a tool.

    Args:
        folder: Its working directory, where the files of its output go.
    """
    main_of(tool)
    output = folder / "output.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _become(tool, [str(argument) for argument in arguments], output)
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), output.read_text(errors="replace"))


def _become(tool: str, arguments: list[str], output: Path) -> None:
    """Be the tool, and end."""
    code = 70  # of this function
    try:
        os.chdir(output.parent)
        os.environ["OMP_NUM_THREADS"] = "1"
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.enable(file)  # else pytest's writes of a crash to the terminal
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        sys.argv = [f"{tool}.py", *arguments]
        code = main_of(tool)(arguments) or 0  # type: ignore[operator]
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        Path(output.parent, _MODULES).write_text("\n".join(sys.modules))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
