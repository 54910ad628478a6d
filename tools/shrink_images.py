#!/usr/bin/env python
"""Copy a folder of images, smaller, so that training loads them faster.

For classification and pretraining: boxes and label maps would not fit the copies. JPEG files larger
than --short-side are resized (bicubic, with antialiasing), all are written anew and keep their
names; where that gains nothing, and for other files, the copy is the original. Run it again after
an interruption: it goes on.

Examples:
  python tools/shrink_images.py data/imagenet/train data/imagenet-384/train
  python tools/shrink_images.py SOURCE TARGET --short-side 320 --quality 85 --workers 32
"""

import argparse
import os
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder tree of images")
    parser.add_argument("target", help="new folder, or one that an interrupted run began")
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
        help="of the JPEG files, 1 to 100 (%(default)s)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Copy and report; exits with code 2 and one line after a mistake, 130 after Ctrl-C."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.data.shrinking import Settings, shrink_folder
    from milan_mm.engine.launch import user_errors

    with user_errors():
        workers = os.cpu_count() or 1 if args.workers is None else args.workers
        if workers < 0:
            raise ValueError(f"--workers {workers}: give 0 or more")
        settings = Settings(args.source, args.short_side, args.quality)
        try:
            print(shrink_folder(args.target, settings, workers))
        except KeyboardInterrupt:
            print("interrupted: run it again, it goes on", file=sys.stderr)
            sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
