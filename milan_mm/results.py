"""The results file: one JSON object per line, appended whole."""

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path


def append_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """Append rows to a JSON-lines file in one write, safe with several writers on one machine."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)


def read_rows(path: str | Path) -> list[dict]:
    """All rows of a results file; an absent file has none.

    Raises:
        ValueError: Naming the line that is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number} is not a JSON object ({error}): remove it") from None
    return rows
