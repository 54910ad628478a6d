#!/usr/bin/env python
"""Speed and memory beside the peers, measured in turn on this machine.

Ours and the peer run in processes of their own, one step each in turn, with the same inputs,
precision and threads, after a check that their results agree. Prints medians, ranges, ratios and
peak memory, then one JSON line per comparison (`gain` over 1: ours is better).

Examples:
  python tools/benchmark.py pretrain             # a training step beside mmpretrain's MILAN
  python tools/benchmark.py pretrain --profile   # where the time of our step goes
  python tools/benchmark.py data --dir data/imagenet
  python tools/benchmark.py dense                # backbones at 1024 pixels
  python tools/benchmark.py dense --step det     # where the time of our Mask R-CNN step goes
  python tools/benchmark.py flops                # the decoder's claim, counted
"""

import argparse
import importlib
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    _add_dense(benches)
    return parser.parse_args(argv)


def _add_dense(benches: argparse._SubParsersAction) -> None:
    parser = benches.add_parser("dense", help="backbones at 1024 pixels beside mmpretrain's")
    cases = ["windows", "windows-rel", "global", "global-rel"]
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=cases,
        default=cases,
        metavar="CASE",
        help="windows: against ViTSAM; global: against VisionTransformer; -rel: ours (and ViTSAM) "
        "with relative positions (all four)",
    )
    parser.add_argument(
        "--precision", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16"]
    )
    parser.add_argument("--img-size", type=int, default=1024, metavar="N", help="pixels (1024)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measured steps (3)")
    parser.add_argument("--threads", type=int, metavar="N", help="of each (all cores)")
    parser.add_argument(
        "--step",
        choices=["det", "seg"],
        help="show instead where a training step of our Mask R-CNN or UperNet recipe spends its "
        "time",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="images of a --step (det 1, seg 2)")


def main(argv: list[str] | None = None) -> None:
    """Run one benchmark; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.engine.launch import user_errors

    with user_errors():
        bench = importlib.import_module(f"milan_mm.benchmark.{args.bench}")
        try:
            bench.run(args)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
