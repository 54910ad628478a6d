#!/usr/bin/env python
"""Check a whole data set before weeks of training: counts, layout, labels, every image.

Decodes all files, lists what is wrong by kind, and draws 16 labelled images to look at. Exit code
0: nothing is wrong; 1: the data are faulty; 2: the command is. Own folders are laid out as for
tools/train.py --data, see docs/start.md.

Examples:
  python tools/check_data.py imagenet                       # data/imagenet/{train,val}/CLASS/*
  python tools/check_data.py coco --data DIR --workers 16
  python tools/check_data.py ade20k --allow-subset --out sheet.png
  python tools/check_data.py seg --data DIR                 # your own; or pretrain, cls, det
"""

import argparse
import os
import sys
from pathlib import Path

from milan_mm.errors import MissingFileError, UserError, run_interruptible
from milan_mm.run import options

OWN = ("pretrain", "cls", "det", "seg")
ROOTS = {
    "imagenet": "data/imagenet",
    "coco": "data/coco",
    "lvis": "data/lvis_v1",
    "ade20k": "data/ade/ADEChallengeData2016",
    "cityscapes": "data/cityscapes",
    "pascal-context": "data/VOCdevkit/VOC2010",
    "coco-stuff": "data/coco_stuff164k",
    "nyu-depth": "data/nyu",
}
NESTED = {"ade20k": "ADEChallengeData2016", "pascal-context": "VOC2010"}  # below what unpacks


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "task",
        choices=[*ROOTS, *OWN],
        help="which published data set, or which task your own data are for",
    )
    parser.add_argument(
        "--data",
        "--root",
        dest="root",
        type=Path,
        metavar="DIR",
        help="its folder (" + ", ".join(ROOTS.values()) + "); needed for your own data",
    )
    parser.add_argument(
        "--allow-subset",
        action="store_true",
        help="having fewer files than the published data set is not a fault",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture of 16 labelled images; all faults go into a .txt of the same name "
        "(work_dirs/check_data/TASK.png)",
    )
    parser.add_argument(
        "--workers",
        type=options.natural,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that read files (one per core that this one may use)",
    )
    args = parser.parse_args(argv)
    if args.root is None and args.task in OWN:
        parser.error(f"{args.task} needs --data DIR, the folder of your images")
    if args.root is None:
        args.root = Path(ROOTS[args.task])
    if args.out is None:
        args.out = Path("work_dirs/check_data", f"{args.task}.png")
    return args


def main(argv: list[str] | None = None) -> None:
    """Check and report; the exit code says what came out."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.upkeep.checking import check_folder

    with user_errors():
        check_arguments(args)
        with silence():
            faulty, report = check_folder(
                args.task, args.root, args.out, args.workers, args.allow_subset
            )
    print(report)
    sys.exit(int(faulty))


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be checked before anything is read."""
    if not args.root.is_dir():
        what = "is not a folder" if args.root.exists() else "does not exist"
        raise MissingFileError(
            f"data folder '{args.root}' {what}: link or unpack the data there, or pass --data DIR"
        )
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out '{args.out}' does not end in .png: it will be a picture")
    nested = args.root / NESTED.get(args.task, "")
    if nested.is_dir():
        args.root = nested


if __name__ == "__main__":
    run_interruptible(main)
