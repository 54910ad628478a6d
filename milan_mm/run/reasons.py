"""Why a run of several processes ended: each leaves its reason, and their launcher says the first.

Of processes that fail one after the other only the first knows why; the others notice that they are
alone. Each writes a file into a folder that `tools/_torchrun.py` has made. Without this launcher a
process speaks for itself.
"""

import json
import os
import time
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from milan_mm.lifetime import LAUNCHERS_FOLDER

MISTAKE, FAILURE, DEFECT, LOST = "mistake", "failure", "defect", "lost"


@dataclass(frozen=True)
class Reason:
    """Why a process ended.

    Attributes:
        kind: A mistake of the user, a failure of the machine, a defect, whose traceback the process
            has printed, or the loss of another process.
        text: One line. rank, pid: Of the process. time: In seconds since 1970.
    """

    kind: str
    text: str
    rank: int
    pid: int
    time: float

    @classmethod
    def first(cls, folder: str | Path, pids: Container[int] | None = None) -> Self | None:
        """The first that was left in a folder; the loss of another process comes after all.

        Args:
            pids: Of the processes that are asked for; None: all, those of earlier tries too.
        """
        every = [cls(**json.loads(path.read_text())) for path in Path(folder).glob("*.json")]
        found = [reason for reason in every if pids is None or reason.pid in pids]
        return min(found, key=lambda reason: (reason.kind == LOST, reason.time), default=None)

    def sentence(self, name: str) -> str:
        """What the launcher says.

        Args:
            name: Of the process, as `process 1 of 2`; '' where it was alone.
        """
        if self.kind == MISTAKE or not name:
            return self.text
        if self.kind == DEFECT:
            return f"{name} failed, its traceback is above: {self.text}"
        return f"{name}: {self.text}"


def leave(kind: str, text: str) -> bool:
    """Leave the reason for the launcher; returns whether there is one that will say it."""
    folder = os.environ.get(LAUNCHERS_FOLDER)
    if not folder or not Path(folder).is_dir():
        return False
    reason = Reason(kind, text, int(os.environ.get("RANK", 0)), os.getpid(), time.time())
    path = Path(folder, f"{reason.pid}.json")
    temporary = path.with_suffix(".part")
    try:
        temporary.write_text(json.dumps(asdict(reason)))
        temporary.replace(path)
    except OSError:  # this disk is full, too
        return False
    return True


def is_restart() -> bool:
    """Whether torchrun has restarted this process; to be asked once in each.

    Its own count says so of the machine that failed, and not of those that were restarted with it.
    """
    folder = os.environ.get(LAUNCHERS_FOLDER)
    if not folder or not Path(folder).is_dir():
        return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    mark = Path(folder, f"started {os.environ.get('LOCAL_RANK', 0)}")
    started = mark.exists()
    mark.touch()
    return started
