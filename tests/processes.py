"""Looking at other processes, by Linux's /proc."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended; one that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
