#!/usr/bin/env python
"""Speed and memory on this machine, compared with the peers'.

Ours and the peer run in separate processes and take turns, one step each, with the same inputs,
precision and threads, after a check that their results agree. Prints medians, ranges, ratios, peak
memory and the share of the machine's matrix rate, then one JSON line per comparison (`gain` over
1: ours is better). dense, flops, scale, --profile and --short-side need a checkout.

Examples:
  python tools/benchmark.py pretrain             # a training step against mmpretrain's MILAN
  python tools/benchmark.py pretrain --profile   # where the time of our step goes
  python tools/benchmark.py data --data data/imagenet
  python tools/benchmark.py dense                # backbones at 1024 pixels
  python tools/benchmark.py dense --step det     # where the time of our Mask R-CNN step goes
  python tools/benchmark.py flops                # the decoder's claim, counted
  python tools/benchmark.py scale                # batch, image, model, processes; on the CPU
  python tools/benchmark.py speed --compile      # images per second, on a GPU
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from milan_mm.errors import run_interruptible
from milan_mm.run import options

AddParser = Callable[..., argparse.ArgumentParser]
ROOT = Path(__file__).resolve().parents[1]  # of the checkout; in a wheel, without benchmarks/


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    _add_pretrain(benches.add_parser)
    _add_data(benches.add_parser)
    _add_dense(benches.add_parser)
    _add_flops(benches.add_parser)
    _add_scale(benches.add_parser)
    _add_speed(benches.add_parser)
    return parser.parse_args(argv)


def _add_pretrain(add_parser: AddParser) -> None:
    parser = add_parser("pretrain", help="our training step against mmpretrain's MILAN")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="images (8)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measured steps (5)")
    parser.add_argument("--arch", choices=["base", "large"], default="base", help="encoder (base)")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=["bfloat16", "float32", "float16"],
        help="of both (bfloat16 and that of mmpretrain's recipe: float16 on GPUs, float32 on CPUs; "
        "with both, ours in bfloat16 is also compared with theirs as shipped)",
    )
    parser.add_argument("--compile", action="store_true", help="ours compiled")
    parser.add_argument(
        "--profile", action="store_true", help="show instead where the time of our step goes"
    )


def _add_data(add_parser: AddParser) -> None:
    parser = add_parser("data", help="loading of images against mmpretrain's pipeline")
    parser.add_argument(
        "--data", "--dir", dest="dir", required=True, metavar="DIR", help="folder tree of images"
    )
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
        "--short-side",
        type=int,
        metavar="N",
        help="also load copies as tools/shrink_images.py makes them, with this shorter side",
    )
    parser.add_argument(
        "--quality", type=int, metavar="N", help="JPEG quality of these copies (90)"
    )
    parser.add_argument(
        "--subsampling", choices=["420", "444"], help="chroma subsampling of these copies (420)"
    )
    parser.add_argument(
        "--step-rate",
        type=float,
        default=4000,
        metavar="N",
        help="images per second a GPU trains on (%(default)s, an H200 with ViT-B/16)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="show instead where the time of loading goes"
    )


def _add_dense(add_parser: AddParser) -> None:
    parser = add_parser("dense", help="backbones at 1024 pixels against mmpretrain's")
    cases = ["windows", "windows-rel", "global", "global-rel"]
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=cases,
        metavar="CASE",
        help="windows: against ViTSAM; global: against VisionTransformer; -rel: ours (and ViTSAM) "
        "with relative positions (all four)",
    )
    precisions = ["bfloat16", "float32"]
    parser.add_argument("--precision", nargs="+", choices=precisions, help="(bfloat16)")
    parser.add_argument("--img-size", type=int, metavar="N", help="pixels (1024)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measured steps (3)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of each (all cores)")
    parser.add_argument(
        "--step",
        choices=["det", "seg"],
        help="show instead where the time of our Mask R-CNN or UperNet step goes",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="images with --step (det 1, seg 2)")


def _add_flops(add_parser: AddParser) -> None:
    add_parser("flops", help="FLOPs of both decoders and of whole steps, counted")


def _add_scale(add_parser: AddParser) -> None:
    parser = add_parser(
        "scale", help="our step on the CPU, by batch, image, model and number of processes"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measured steps (3)")
    parser.add_argument(
        "--precision", choices=["bfloat16", "float32"], default="bfloat16", help="(bfloat16)"
    )


def _add_speed(add_parser: AddParser) -> None:
    parser = add_parser("speed", help="images per second of our step, loading included")
    parser.add_argument(
        "--arch", nargs="+", choices=["base", "large"], default=["base"], help="encoders (base)"
    )
    parser.add_argument(
        "--batch-size", type=int, nargs="+", metavar="N", help="images (512; 8 without a GPU)"
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="measured steps (20)")
    parser.add_argument("--compile", action="store_true", help="compile the parts of the step")
    parser.add_argument(
        "--data",
        "--dir",
        dest="dir",
        metavar="DIR",
        help="also load the images of this folder tree, with the recipe's pipeline",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="loader processes with --data (all cores)"
    )
    parser.add_argument(
        "--precision", choices=["bfloat16", "float32"], default="bfloat16", help="(bfloat16)"
    )


def main(argv: list[str] | None = None) -> None:
    """Run one benchmark; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as tools/train.py does without a GPU
    # imported here, so that --help answers without delay
    from milan_mm.run.errors import user_errors

    with user_errors():
        bench = _import(_module(args))
        try:
            bench.run(args)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


def _module(args: argparse.Namespace) -> str:
    """Name of the module whose `run` does what was asked for."""
    if args.bench == "pretrain" and args.profile:
        return "benchmarks.sections"
    if args.bench == "data" and args.profile:
        return "benchmarks.stages"
    if args.bench == "data" and args.short_side is not None:
        return "benchmarks.copies"
    package = "milan_mm.benchmark" if args.bench in ("pretrain", "data", "speed") else "benchmarks"
    return f"{package}.{args.bench}"


def _import(name: str) -> ModuleType:
    """Import a benchmark, which may be one of the checkout's.

    Raises:
        UserError: When it is, and this is an installed package.
    """
    from milan_mm.errors import UserError

    if name.startswith("benchmarks."):
        if not (ROOT / "benchmarks/__init__.py").is_file():
            raise UserError(
                f"this benchmark ({name}) is not part of the installed package: run "
                "`python tools/benchmark.py` in a checkout of the repository"
            )
        sys.path.insert(0, str(ROOT))  # a script's own path is that of tools/
    return importlib.import_module(name)


if __name__ == "__main__":
    run_interruptible(main)
