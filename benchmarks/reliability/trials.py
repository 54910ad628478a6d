"""Runs of `faulty.py`: start them, end them, and count what they leave behind.

Every process of a trial has its mark in the environment, so that also those are found whose parents
are gone.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reliability.faulty import config

TOOLS = Path(__file__).resolve().parents[2] / "tools"
_MARK = "MILAN_MM_TRIAL"


@dataclass
class Trial:
    """A command in a folder.

    Attributes:
        folder: It has `faulty.py`, the config.
        command: What is run. environment: In addition to this process's.
    """

    folder: Path
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self) -> subprocess.Popen:
        """Start the command; output goes to files, since an orphan would hold a pipe open."""
        added = {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "PYTHONPATH": str(TOOLS.parent)}
        self.began = time.monotonic()
        with (self.folder / f"{self.mark}.log").open("w") as log:
            return subprocess.Popen(
                list(self.command),
                cwd=self.folder,
                env=os.environ | added | self.environment | {_MARK: self.mark},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, seconds: float = 300) -> int:
        """Run the command; returns its exit code, as a shell would."""
        code = self.start().wait(seconds)
        self.seconds = time.monotonic() - self.began
        return code if code >= 0 else 128 - code

    @property
    def output(self) -> str:
        """All that was printed."""
        return (self.folder / f"{self.mark}.log").read_text(errors="replace")

    @property
    def last_line(self) -> str:
        """What the user sees in the end."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def processes(self) -> list[int]:
        """Those of the trial that still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self.mark}".encode() not in (path / "environ").read_bytes():
                    continue
                if (path / "stat").read_text().rpartition(") ")[2][0] != "Z":
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def orphans(self, seconds: float) -> list[int]:
        """Those that still run so many seconds from now; returns as soon as there are none."""
        deadline = time.monotonic() + seconds
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def training(folder: Path, processes: int, *options: str, **environment: str) -> Trial:
    """A training of `faulty.py` on some processes of one machine."""
    (folder / "faulty.py").write_text(config())
    command = [sys.executable, str(TOOLS / "train.py"), "faulty.py", *options]
    if processes > 1:
        command = ["bash", str(TOOLS / "dist_train.sh"), "faulty.py", str(processes), *options]
    return Trial(folder, command, environment)
