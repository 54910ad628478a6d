#!/usr/bin/env python
"""Convert labels of other programs to the layout that --data takes, and check the result.

SRC is an Ultralytics YOLO folder (boxes or segments), Pascal VOC (boxes; masks with --from
voc-masks), an export of CVAT ('CVAT for images', COCO, VOC, segmentation mask), of Label Studio
(COCO, YOLO) or of Roboflow (YOLO, COCO, VOC, semantic masks); or images/ and masks/, or class
folders, without splits. Its kind is recognised by the files. Without a validation split,
--val-share of the images become one.

Exit code 0: written and without faults; 1: written, and the check has found faults; 2: not written.

Examples:
  python tools/convert_data.py DOWNLOADS/my-yolo data/mine
  python tools/convert_data.py VOCdevkit/VOC2012 data/voc-seg --from voc-masks
  python tools/convert_data.py result.json data/mine --images PHOTOS --val-share 0.1 --seed 1
"""

import argparse
import os
import sys
from pathlib import Path

from milan_mm.errors import MissingFileError, run_interruptible
from milan_mm.escaping import visible
from milan_mm.run import options

KINDS = ("yolo", "voc", "voc-masks", "cvat", "coco", "roboflow-masks", "masks", "classes")
RECIPES = dict(
    det="det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
    seg="seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
    cls="cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("source", type=Path, metavar="SRC", help="folder, or its .json or .yaml")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder, for --data")
    parser.add_argument(
        "--from", dest="kind", choices=KINDS, metavar="KIND", help=f"of SRC: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="where the images are, if not below SRC"
    )
    parser.add_argument(
        "--val-share",
        type=share,
        default=0.2,
        metavar="SHARE",
        help="of the images, for validation where SRC has no split for it (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=options.natural, default=0, metavar="N", help="of that choice (0)"
    )
    parser.add_argument(
        "--max-dropped",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="of images, and of objects, that may be left out because of faults (%(default)s)",
    )
    parser.add_argument(
        "--voc-origin",
        type=int,
        choices=(0, 1),
        help="the number of the first pixel in Pascal VOC's boxes (0 if a coordinate is below 1)",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--link", action="store_true", help="symbolic links to the images")
    group.add_argument(
        "--copy", action="store_true", help="copies (hard links where the file system has them)"
    )
    parser.add_argument(
        "--workers",
        type=options.natural,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes of the check (one per core)",
    )
    return parser.parse_args(argv)


def share(text: str) -> float:
    """A number of 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share, from 0 to 1")
    return number


def main(argv: list[str] | None = None) -> None:
    """Convert, check, and say what comes next."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.upkeep.checking import check_folder
    from milan_mm.upkeep.convert import Options, convert, find_kind
    from milan_mm.upkeep.convert.source import Source
    from milan_mm.upkeep.convert.writing import copy, hard_link, symbolic_link

    with user_errors():
        if args.images and not args.images.is_dir():
            raise MissingFileError(
                f"--images '{args.images}' is not a folder: give that of the images"
            )
        kind, place = find_kind(args.source, args.kind)
        print(f"{place}: {kind.title}", flush=True)
        source = Source.of(place, args.images, args.voc_origin)
        by = symbolic_link if args.link else copy if args.copy else hard_link
        how = Options(args.val_share, args.seed, args.max_dropped, by)
        print("\n".join(map(visible, convert(kind, source, args.out, how))), flush=True)
        with silence():
            sheet = Path("work_dirs/check_data", f"{args.out.resolve().name}.png")
            faulty, report = check_folder(kind.task, args.out, sheet, args.workers)
    print(report)
    print(f"next: python tools/train.py {RECIPES[kind.task]} --data {args.out} --quick")
    sys.exit(int(faulty))


if __name__ == "__main__":
    run_interruptible(main)
