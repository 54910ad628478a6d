"""A checksum in each row of a results file, so that a changed number is noticed.

It covers what a row says, not how: line ends, spaces and the order of keys may change, and lines
may be sorted, removed, or joined with those of other files.
"""

import hashlib
import json
from collections.abc import Mapping

KEY = "checksum"
_DIGITS = 16  # hexadecimal


def line_of(row: Mapping) -> str:
    """The line of a row, with its checksum as the last key."""
    content = json.loads(json.dumps(row))  # as it will be read
    content.pop(KEY, None)
    return json.dumps(content | {KEY: _checksum(content)})


def take_checksum(row: dict) -> bool | None:
    """Remove the checksum from a row that was read.

    Returns:
        Whether it fits; None for a row without, as earlier versions wrote them.
    """
    if KEY not in row:
        return None
    return row.pop(KEY) == _checksum(row)


def _checksum(content: dict) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
