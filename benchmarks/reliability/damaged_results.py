"""A damaged results file is noticed, or says what it said before; prints "n of n".

Flips random bits of a results file and cuts it short, one damage at a time, and reads it as
tools/report.py does. Noticed means an error, or a remark that a sound file does not have. A file
that was cut at the end of a line is one that had fewer rows: those it has must be the first ones.

Examples:
  python benchmarks/reliability/damaged_results.py                 # 1,000 flips and 100 cuts
  python benchmarks/reliability/damaged_results.py --flips 5000 --seed 1
"""

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path

from milan_mm.errors import UserError
from milan_mm.evaluation.results import append_rows, read_results, remarks_on


def sample_rows(count: int = 8) -> list[dict]:
    """Rows as tools/evaluate.py writes them."""
    row = dict(
        task="coco",
        metric="box AP",
        method="MILAN",
        weights="milan_größe.safetensors",
        weights_sha256="0a" * 32,
        config="det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
        config_hash="c0ffee",
        protocol="paper",
        protocol_hash="abcdef",
        total_batch=64,
        precision="bfloat16",
        packages=dict(torch="2.10.0", numpy="2.3.1"),
        data="COCO",
        data_counts=dict(train=117266, val=5000),
        data_hash=dict(train="0123456789abcdef", val="fedcba9876543210"),
        commit="1234567",
        time="2026-01-31T12:00:00+00:00",
        command="python tools/evaluate.py --weights milan.safetensors --tasks coco",
    )
    return [row | dict(value=50.0 + i / 7, seed=i, seconds=60_000.0 + i) for i in range(count)]


def outcome(content: bytes, path: Path, rows: list[dict]) -> str:
    """What a damaged file leads to: 'error', 'remark', 'harmless', 'earlier', or 'SILENT'.

    Args:
        content: Of the file, which is written to `path`. rows: Those of the sound file.
    """
    path.write_bytes(content)
    try:
        found, remarks = read_results(path), remarks_on(path)
    except UserError as error:
        assert f"{path}" in str(error)
        return "error"
    if remarks:
        return "remark"
    if found == rows:
        return "harmless"
    return "earlier" if found == rows[: len(found)] else "SILENT"


def count_outcomes(flips: int, cuts: int, seed: int, folder: Path) -> Counter:
    """Damages by outcome.

    Args:
        folder: For the files.
    """
    path, rows, generator = folder / "results.jsonl", sample_rows(), random.Random(seed)
    append_rows(path, rows)
    sound = path.read_bytes()
    assert outcome(sound, path, rows) == "harmless"
    found: Counter = Counter()
    for _ in range(flips):
        damaged = bytearray(sound)
        damaged[generator.randrange(len(sound))] ^= 1 << generator.randrange(8)
        found[outcome(bytes(damaged), path, rows)] += 1
    for _ in range(cuts):
        found[outcome(sound[: generator.randrange(len(sound))], path, rows)] += 1
    return found


def main() -> None:
    """Print the count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1000, metavar="N")
    parser.add_argument("--cuts", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = count_outcomes(args.flips, args.cuts, args.seed, Path(folder))
    total = found.total()
    parts = ", ".join(f"{number} {kind}" for kind, number in sorted(found.items()))
    print(f"{total - found['SILENT']} of {total} damages noticed or harmless ({parts})")


if __name__ == "__main__":
    main()
