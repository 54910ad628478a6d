"""Pairs of processes that train with --fsdp's engine and end: with exit code 0, every time?

From torch 2.12 on the caches of DTensor keep the process group, so threads of gloo are still there
when the interpreter ends. What was tried to free them (28 November 2026): every `lru_cache` of the
process, and both functions of `torch.distributed.tensor.debug` that empty caches. None helped.

Run: python -m benchmarks.reliability.sharded_ends [--pairs 25]
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

UPDATES = 5


def train(rank: int, folder: str) -> None:
    """One process of two: connect, train a few updates, leave."""
    import torch
    import torch.distributed as dist
    from torch import nn

    from milan_mm.engine.sharding import FullySharded
    from milan_mm.run.processes import leave_processes

    def updates() -> None:
        model = FullySharded(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)))
        model.shard()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(UPDATES):
            model(torch.randn(4, 64)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    updates()
    leave_processes()


def main() -> int:
    """Run the pairs and count their exit codes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--process", nargs=2, metavar=("RANK", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process:
        train(int(args.process[0]), args.process[1])
        return 0
    codes: Counter[int] = Counter()
    command = [sys.executable, "-m", "benchmarks.reliability.sharded_ends", "--process"]
    for _ in range(args.pairs):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            with log.open("w") as output:
                pair = [
                    subprocess.Popen([*command, str(rank), folder], stderr=output)
                    for rank in range(2)
                ]
                ended = [process.wait(120) for process in pair]
            codes.update(ended)
            if any(ended):
                print(log.read_text()[-1000:], file=sys.stderr)
    print(f"{codes[0]} of {2 * args.pairs} processes ended with exit code 0")
    return 0 if codes[0] == 2 * args.pairs else 1


if __name__ == "__main__":
    sys.exit(main())
