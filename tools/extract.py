#!/usr/bin/env python
"""Compute the frozen features of images once, for every protocol that reads them.

Writes a folder for each split below OUT: POOLING.safetensors with a tensor 'features' (images,
blocks, width), images.json with names and labels, and manifest.json, which says what the features
depend on. The same command goes on after an interruption, and does nothing once all is there.
tools/evaluate.py and tools/knn.py take them by --features OUT.

Examples:
  python tools/extract.py --weights encoder.safetensors               # ImageNet, the last block
  python tools/extract.py --weights FILE --data DIR --blocks -4 -3 -2 -1 --pooling cls_token avg
  python tools/extract.py --weights FILE --dtype float16 --split val  # half the size, for your code
"""

import argparse
import sys

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options

SPLITS = ("train", "val")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_weights(parser, required=True)
    parser.add_argument(
        "--data",
        default="data/imagenet",
        metavar="DIR",
        help="image folder with train/CLASS/* and val/CLASS/* (data/imagenet)",
    )
    parser.add_argument(
        "--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="(both of them)"
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        type=int,
        default=[-1],
        metavar="N",
        help="numbers from 0, or from -1 for the last; the final norm is applied to each (-1)",
    )
    parser.add_argument(
        "--pooling",
        nargs="+",
        choices=["cls_token", "avg", "pool"],
        help="class token, mean of the patch tokens, the encoder's own attention pooling (SigLIP, "
        "PE), or several of them (the class token; without one the encoder's own, or the mean)",
    )
    options.add_preparation(parser)
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float32",
        help="of the files (float32, which the other tools read)",
    )
    parser.add_argument(
        "--amp", action="store_true", help="compute in bfloat16, as tools/evaluate.py does on a GPU"
    )
    parser.add_argument(
        "--batch-size", type=options.positive, default=64, metavar="N", help="images at a time (64)"
    )
    parser.add_argument(
        "--workers",
        type=options.natural,
        metavar="N",
        help="processes that read images (one per core, up to 8)",
    )
    parser.add_argument(
        "--out", default="work_dirs/features", metavar="DIR", help="(work_dirs/features)"
    )
    options.add_reading(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print the folder of each split; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    with early.early_errors():
        early.check_weights(args.weights)
        early.check_class_data(args.data)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.text import bytes_of
    from milan_mm.weights.recognising import given_options, read_encoder

    with user_errors(), silence():
        from milan_mm.evaluation.features import unread_notes
        from milan_mm.evaluation.frozen.extraction import Preparation, extract_folder

        encoder = read_encoder(args.weights, **given_options(args))
        preparation = Preparation(
            img_size=args.img_size or 0,
            crop_pct=args.crop_pct,
            stats=args.stats,
            amp=args.amp,
            dtype=args.dtype,
            batch_size=args.batch_size,
            num_workers=args.workers,
        )
        splits = [split for split in SPLITS if split in args.split]
        for note in unread_notes(args.data, splits):
            print(f"note: {note}", file=sys.stderr)
        stores = list(
            extract_folder(
                encoder, args.data, splits, args.blocks, args.pooling, preparation, args.out
            )
        )
    for store in stores:
        spec = store.spec
        poolings = " and ".join(spec.needs.poolings)
        print(
            f"{spec.split}: {spec.num_images:,} images, blocks "
            f"{' '.join(map(str, spec.needs.blocks))}, {poolings}, width {spec.width}, "
            f"{spec.dtype}, {bytes_of(spec.nbytes)}: {store.folder}"
        )
    print(f"read by --features {args.out}", file=sys.stderr)


if __name__ == "__main__":
    run_interruptible(main)
