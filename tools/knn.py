#!/usr/bin/env python
"""Classify images by their nearest neighbours among frozen features: a number without training.

Every validation image takes the label that its k most similar training images vote for. Needs
DIR/train/CLASS/* and DIR/val/CLASS/*, and runs on a GPU if there is one.

Examples:
  python tools/knn.py --weights encoder.safetensors                  # ImageNet at data/imagenet
  python tools/knn.py --weights work_dirs/NAME/epoch_400.pth --amp --random
  python tools/knn.py --weights FILE --data DIR --feature cls_token avg --out results.jsonl
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options

if TYPE_CHECKING:
    from milan_mm.evaluation.frozen.measured import Measured
    from milan_mm.evaluation.knn import Knn


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_weights(parser, required=True)
    parser.add_argument(
        "--data", default="data/imagenet", metavar="DIR", help="image folder (data/imagenet)"
    )
    parser.add_argument(
        "--k",
        nargs="+",
        type=options.positive,
        default=[20],
        metavar="N",
        help="neighbours that vote (20); several numbers take one pass of the similarities",
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=0.07,
        metavar="T",
        help="a neighbour votes with the weight exp(similarity / T) (0.07)",
    )
    parser.add_argument(
        "--feature",
        nargs="+",
        choices=["cls_token", "avg", "pool"],
        default=["cls_token"],
        help="class token (default), mean of the patch tokens, the encoder's own attention pooling "
        "(SigLIP, PE), or several of them",
    )
    options.add_preparation(parser)
    parser.add_argument(
        "--random", action="store_true", help="also judge an untrained encoder of the same shape"
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
    parser.add_argument("--amp", action="store_true", help="compute features in bfloat16")
    parser.add_argument(
        "--features",
        metavar="DIR",
        help="where features are kept and found again, also those of tools/extract.py (nowhere)",
    )
    parser.add_argument("--out", metavar="FILE", help="append the numbers to this results.jsonl")
    options.add_reading(parser)
    return parser.parse_args(argv)


def temperature(text: str) -> float:
    """A number above 0."""
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return float(text)


def main(argv: list[str] | None = None) -> None:
    """Print the accuracies; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    with early.early_errors():
        early.check_weights(args.weights)
        early.check_class_data(args.data)
    # here, so that --help is quick
    from milan_mm.evaluation.results import append_rows
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence
    from milan_mm.weights.recognising import given_options, read_encoder

    started = time.monotonic()
    with user_errors(), silence():
        from milan_mm.evaluation.knn import Knn, KnnSettings  # what it imports prints a line

        settings = KnnSettings(
            ks=tuple(sorted(set(args.k))),
            temperature=args.temperature,
            features=tuple(args.feature),
            img_size=args.img_size,
            crop_pct=args.crop_pct,
            stats=args.stats,
            amp=args.amp,
            batch_size=args.batch_size,
            num_workers=args.workers,
            store=args.features,
        )
        encoder = read_encoder(args.weights, **given_options(args))
        knn = Knn.of(encoder, args.data, settings, args.random)
        print(knn.description, file=sys.stderr)
        found = knn.measured()
        if args.out:
            append_rows(args.out, rows(knn, found, args, time.monotonic() - started))
    several = len(args.k) > 1
    print(
        f"{'encoder':<10}{'feature':<10}"
        + ("    k" if several else "")
        + f"{'top-1 %':>11}{'top-5 %':>11}{'95 % of top-1':>17}"
    )
    for (name, feature, k), values in found.items():
        shown = ["undefined" if m.value is None else f"{m.value:.2f}" for m in values.values()]
        low, high = values["top-1"].interval or (0, 0)
        print(
            f"{name:<10}{feature:<10}"
            + (f"{k:>5}" if several else "")
            + "".join(f"{text:>11}" for text in shown)
            + f"{f'{low:.2f} to {high:.2f}':>17}"
        )


def rows(
    knn: "Knn",
    found: "dict[tuple[str, str, int], dict[str, Measured]]",
    args: argparse.Namespace,
    seconds: float,
) -> list[dict]:
    """Rows for the results file, top-1 and top-5 of each encoder, feature and k."""
    from milan_mm.weights.reading import file_sha256

    sha256 = file_sha256(knn.encoder.source)
    common = dict(
        task="knn",
        data=str(args.data),
        num_train=len(knn.train),
        num_val=len(knn.val),
        temperature=args.temperature,
        img_size=knn.settings.img_size,
        crop_pct=args.crop_pct,
        stats=knn.settings.stats,
        precision="bfloat16" if args.amp else "float32",
        seconds=round(seconds, 1),
    )
    made = []
    for (init, feature, k), values in found.items():
        trained = init == "weights"
        own = dict(
            init=init,
            feature=feature,
            k=k,
            weights=args.weights if trained else None,
            sha256=sha256 if trained else None,
        )
        made += [
            dict(metric=name) | common | own | m.facts | dict(value=m.value)
            for name, m in values.items()
        ]
    return made


if __name__ == "__main__":
    run_interruptible(main)
