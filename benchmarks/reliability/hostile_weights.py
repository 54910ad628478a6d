"""Hostile weights files: every kind at every entry that takes one, and files that ask for much.

Run: python -m benchmarks.reliability.hostile_weights
"""

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from tests.hostile import entries, kinds


def main() -> int:
    """Print how many files were refused in one line, with no code run, and what went wrong."""
    faults, number = [], 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.chdir(folder)
        entries.prepare(folder)
        runs = {" ".join(e): partial(entries.call, e) for e in entries.TOOLS}
        runs |= entries.python_entries()  # type: ignore[arg-type]
        for entry, run in runs.items():
            for kind in kinds.KINDS:
                file, marker = kinds.write(kind, folder)
                text, number = io.StringIO(), number + 1
                with redirect_stdout(io.StringIO()), redirect_stderr(text):
                    fault = entries.is_refused(partial(run, str(file)), file, marker, text.getvalue)
                faults += [f"{entry}, {kind}: {fault}"] if fault else []
        os.chdir(entries.ROOT)
    print(f"{len(runs)} entries x {len(kinds.KINDS)} kinds: {number - len(faults)} of {number}")
    print("\n".join(faults))
    return min(1, len(faults))


if __name__ == "__main__":
    sys.exit(main())
