"""A small JSON file of this package beside a log: written whole, and read only in its version."""

import json
from pathlib import Path
from typing import Any

from milan_mm.files import replacing


def write_json(path: Path, version: int, content: dict[str, Any]) -> None:
    """Write a file of a version.

    Raises:
        OSError: The disk is full or not writable.
    """
    with replacing(path) as partial:
        text = json.dumps(dict(version=version) | content, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, version: int) -> dict[str, Any] | None:
    """The content of a file; None without a whole one of this version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("version") != version:
        return None
    return content
