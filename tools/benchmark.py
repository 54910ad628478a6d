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
    # the subcommands add themselves here
    _add_data(benches)
    return parser.parse_args(argv)


def _add_data(benches: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = benches.add_parser("data", help="loading of images beside mmpretrain's pipeline")
    parser.add_argument("--dir", required=True, metavar="DIR", help="folder tree of images")
    parser.add_argument(
        "--images", type=int, default=192, metavar="N", help="images of a round (%(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="measured rounds of each (%(default)s)"
    )
    parser.add_argument(
        "--size", type=int, metavar="N", help="side of the crops in pixels (the recipes' 224)"
    )
    parser.add_argument(
        "--step-rate",
        type=float,
        default=4000,
        metavar="N",
        help="images per second that a GPU trains on (%(default)s, the goal for ViT-B/16)",
    )


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
