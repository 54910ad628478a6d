#!/usr/bin/env python
"""Evaluate a checkpoint: prints box and mask AP, mIoU, or whatever the config measures.

Examples:
  python tools/test.py configs/det/NAME.py work_dirs/NAME/iter_184375.pth --out metrics.json
  python tools/test.py CONFIG CHECKPOINT --classwise --out metrics.json --out predictions.pkl
  python tools/test.py CONFIG CHECKPOINT --show-dir pictures   # annotated beside predicted
  python tools/test.py CONFIG CHECKPOINT --test-set imagenet-a --data DIR   # a classifier elsewhere
"""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from milan_mm import early
from milan_mm.configs import find_config
from milan_mm.datasets.variants import VARIANTS
from milan_mm.errors import run_interruptible
from milan_mm.run import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmengine.evaluator import BaseMetric
    from mmengine.runner import Runner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_config(parser)
    parser.add_argument("checkpoint", help="checkpoint that was trained with this config")
    options.add_run(
        parser,
        data="own images of the classes that the checkpoint was trained on: their validation "
        "split, or their test split",
        quick="one batch only; AP still counts all images",
    )
    parser.add_argument(
        "--test-set",
        choices=VARIANTS,
        metavar="NAME",
        help=f"--data is a variant of ImageNet-1K, as published: {', '.join(VARIANTS)}",
    )
    options.add_img_size(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        action="append",
        help="also write the metrics to this JSON file, by name; or, if it ends in .pkl, the "
        "predictions, as mmdet does; may be given twice",
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw what is annotated and predicted on each image"
    )
    parser.add_argument(
        "--show-score-thr",
        "--score-thr",
        type=options.share,
        default=0.3,
        metavar="SCORE",
        help="with --show-dir, draw objects from this score on (0.3)",
    )
    parser.add_argument(
        "--classwise",
        action="store_true",
        help="also measure each class: AP, IoU, or precision and recall",
    )
    parser.add_argument(
        "--interval",
        action="store_true",
        help="also the 95 %% interval of mIoU, by resampling the test images",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Evaluate and print; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    with early.early_errors():
        find_config(args.config)
        early.check_checkpoint(args.checkpoint)
        early.check_own_data(args.data)
    options.set_local_rank(args)
    # here, so that --help is quick
    from milan_mm.configs import load
    from milan_mm.evaluation.per_class import class_table, split_classes
    from milan_mm.run.errors import user_errors
    from milan_mm.run.metrics import check_folder, check_output, why_no_metric, write_metrics
    from milan_mm.run.prepare import TEST, prepare
    from milan_mm.run.processes import is_main_process
    from milan_mm.run.run_options import RunOptions
    from milan_mm.run.training import check_testable, test

    with user_errors():
        for path in args.out or ():
            check_output(path)
        if args.show_dir:
            check_folder(args.show_dir, "--show-dir")
        cfg = load(args.config)
        check_testable(cfg)  # before the checkpoint is read
        notes = prepare(cfg, RunOptions.of_test(args), TEST)
    with user_errors(cfg):
        metrics = test(cfg, args.checkpoint, notes, additions(args))
    if not is_main_process():
        return
    means, classes = split_classes(metrics)
    for name, value in means.items():
        print(f"{name}: {round(float(value), 4)}")
    if classes:
        print(class_table(classes))
    if not metrics:
        print(why_no_metric(cfg))
    for path in args.out or ():
        if not is_dump(path):
            with user_errors():
                write_metrics(path, metrics)


def additions(args: argparse.Namespace) -> "list[Callable[[Runner], None]]":
    """What the options add to a test: metrics of each class, a file of predictions, pictures."""
    found: list[Callable[[Runner], None]] = []
    # each imports libraries that other tests do without
    if args.classwise:
        from milan_mm.evaluation.per_class import report_per_class

        found.append(report_per_class)
    if args.interval:
        from milan_mm.evaluation.iou_interval import report_interval

        found.append(report_interval)
    for path in filter(is_dump, args.out or ()):
        from milan_mm.evaluation.dumping import DumpPredictions

        found.append(partial(add_metric, metric=DumpPredictions(path)))
    if args.show_dir:
        from milan_mm.inference.showing import ShowHook

        hook = ShowHook(args.show_dir, args.show_score_thr)
        found.append(lambda runner: runner.register_hook(hook))
    return found


def add_metric(runner: "Runner", metric: "BaseMetric") -> None:
    """Let a test also feed another metric."""
    runner.test_evaluator.metrics.append(metric)


def is_dump(path: str) -> bool:
    """Whether a file is for predictions, and not for metrics."""
    return path.endswith((".pkl", ".pickle"))


if __name__ == "__main__":
    run_interruptible(main)
