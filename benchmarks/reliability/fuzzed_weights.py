"""Random weights files that call everything a file may name: none crashes, fills memory or runs.

Run: python -m benchmarks.reliability.fuzzed_weights [FILES] [SEED]
"""

import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile import fuzz

ROOM = 500 * 2**20  # bytes of address space beyond those at the start


def main(number: int = 20_000, seed: int = 0) -> int:
    """Print what became of the files, and what went wrong."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz.faults(number, Path(folder), seed, lambda what: seen.update([what]))
    print(
        f"{number - len(found)} of {number} files, {len(fuzz.NAMES)} names: {seen['refused']} "
        f"refused, {seen['read']} read as plain values, within {ROOM >> 20} MiB"
    )
    print("\n".join(found[:10]), end="")
    return min(1, len(found))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
