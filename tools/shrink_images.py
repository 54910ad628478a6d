#!/usr/bin/env python
"""Copy a folder of images, smaller, so that training loads them faster.

For classification and pretraining: boxes and label maps would not fit the copies. JPEG files larger
than --short-side are resized (bicubic, with antialiasing); all are compressed anew, and keep their
names. Where that makes no smaller file, and for files of other kinds, the copy is the original;
hidden files are left out. Run it again after an interruption: it goes on. What the copies lose, and
how much faster they load: docs/performance.md.

Exit code 0: every file has a copy; 1: some images cannot be read; 2: the command is wrong.

Examples:
  python tools/shrink_images.py data/imagenet/train data/imagenet-384/train
  python tools/shrink_images.py SOURCE TARGET --short-side 320 --subsampling 444 --workers 32
"""

import argparse
import os
import sys
from pathlib import Path

from milan_mm.errors import UserError, run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("source", type=Path, help="folder tree of images")
    parser.add_argument("target", type=Path, help="new folder, or one that an earlier run began")
    parser.add_argument(
        "--short-side",
        type=int,
        default=384,
        metavar="N",
        help="pixels of the shorter side; smaller images keep their size (%(default)s)",
    )
    parser.add_argument(
        "--quality",
        type=int,
        default=90,
        metavar="N",
        help="of the JPEG files, 1-100 (%(default)s)",
    )
    parser.add_argument(
        "--subsampling",
        choices=["420", "444"],
        default="420",
        help="of the colours: 420 keeps half their rows and columns, 444 all of them, in larger "
        "files (%(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (one per core that this one may use)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Copy and report."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.upkeep.shrink import ShrinkSettings, shrink_folder

    with user_errors():
        workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
        if workers < 0:
            raise UserError(f"--workers {workers}: give 0 or more")
        settings = ShrinkSettings(args.source, args.short_side, args.quality, args.subsampling)
        try:
            report = shrink_folder(args.target, settings, workers)
        except KeyboardInterrupt:
            print("interrupted: run it again, it goes on", file=sys.stderr)
            sys.exit(130)
    print(report.text)
    sys.exit(int(not report.complete))


if __name__ == "__main__":
    run_interruptible(main)
