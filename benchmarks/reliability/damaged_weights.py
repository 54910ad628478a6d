"""Damaged weights files: 1,000 flipped bits and 100 truncations of each kind, none taken as sound.

Run: python -m benchmarks.reliability.damaged_weights [FLIPS TRUNCATIONS]
"""

import sys
import tempfile
from pathlib import Path

from tests.hostile import damage


def main(flips: int = 1000, truncations: int = 100) -> int:
    """Print a line for each kind of file and of damage, and return the number of faults."""
    faults = 0
    for kind, (make, _) in damage.FILES.items():
        for name, number in (("flipped bits", flips), ("truncations", truncations)):
            with tempfile.TemporaryDirectory() as folder:
                path = make(Path(folder))
                content = path.read_bytes()
                copies = damage.flips if name == "flipped bits" else damage.truncations
                found = damage.count(kind, copies(content, number), path)
            good = found.refused + found.harmless
            print(
                f"{kind} ({len(content):,} bytes), {name}: {good} of {number} refused "
                f"({found.refused}) or without effect ({found.harmless})"
            )
            for fault in found.faults[:5]:
                print(f"  {fault[:200]}")
            faults += len(found.faults)
    return faults


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
