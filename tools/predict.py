#!/usr/bin/env python
"""Predict on pictures: boxes and masks, a class for each pixel, or labels; no config is needed.

Writes into --out: pictures/ to look at, predictions.csv for a spreadsheet, and for programs
predictions.json (COCO results of a detector, likeliest labels of a classifier), labels/ (label maps
of a segmentor), depth/ (millimetres) and images.json (names of images and classes). See
docs/predict.md.

Exit codes: 0, all pictures were predicted on; 1, some were skipped; 2, a mistake in the command.

Examples:
  python tools/predict.py work_dirs/NAME/iter_184375.pth photo.jpg --out predictions
  python tools/predict.py CHECKPOINT photos/ 'more/**/*.png' --out DIR --batch 8 --score-thr 0.5
  python tools/predict.py CHECKPOINT photos/ --out DIR --no-pictures --device cpu
"""

import argparse
import sys

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.escaping import visible
from milan_mm.run import options

SKIPPED = 1  # exit code


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a trained classifier, detector, segmentor or depth estimator (.pth)",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="files, folders (with all that is in them) and patterns",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--score-thr",
        type=options.share,
        default=0.3,
        metavar="SCORE",
        help="draw and list objects from this score on (0.3); predictions.json has all that the "
        "model returns, see model.test_cfg",
    )
    parser.add_argument(
        "--batch", type=options.positive, default=1, metavar="N", help="pictures at a time (1)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (the GPU, if there is one)")
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16")
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument(
        "--workers",
        type=options.natural,
        metavar="N",
        help="processes that read pictures (with a GPU one per core, up to 8; else 0)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="override fields of the checkpoint's config",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Predict; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    with early.early_errors():
        early.check_checkpoint(args.checkpoint)
    # here, so that --help is quick
    from tqdm import tqdm

    from milan_mm.errors import UserError
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence

    with user_errors():
        from milan_mm.inference.pictures import find_pictures
        from milan_mm.run.metrics import check_folder

        check_folder(args.out, "--out")
        pictures, unread = find_pictures(args.pictures, args.out)
        with silence():  # what is imported prints lines
            from milan_mm.inference.classes import Classes
            from milan_mm.inference.predicting import (
                Prediction,
                Predictor,
                default_workers,
                prediction_pipeline,
            )
            from milan_mm.inference.restoring import build, find_device, read
            from milan_mm.inference.results import writing

        device = find_device(args.device)
        saved = read(args.checkpoint, args.cfg_options)
        prediction_pipeline(saved)  # before a model that predicts nothing is built
        restored = build(saved, device)
        workers = default_workers(device) if args.workers is None else args.workers
        predictor = Predictor(restored, args.batch, args.amp, workers)
        classes = Classes.of(restored)
        for note in (*restored.notes, *classes.notes):
            print(visible(note), file=sys.stderr)
        skipped = [f"{path}: of a type that is not read, or not a file" for path in unread]
        with (
            writing(args.out, restored.task, classes, args.score_thr) as results,
            tqdm(total=len(pictures), desc="predict", unit=" pictures", smoothing=0.05) as bar,
        ):
            for found in predictor(pictures, with_images=not args.no_pictures):
                if isinstance(found, Prediction):
                    results.add(found)
                else:
                    skipped.append(f"{found.picture.path}: {found.reason}")
                bar.update()
            if not results.images:
                raise UserError(f"none of {len(skipped)} pictures can be read: {skipped[0]}")
    for line in skipped:
        print(f"skipped {visible(line)}", file=sys.stderr)
    print(results.summary(len(skipped)))
    return SKIPPED if skipped else 0


if __name__ == "__main__":
    run_interruptible(main)
