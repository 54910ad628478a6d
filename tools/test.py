#!/usr/bin/env python
"""Evaluate a checkpoint: prints box and mask AP, mIoU, or whatever the config measures.

Example:
  python tools/test.py configs/det/NAME.py work_dirs/NAME/iter_184375.pth --out metrics.json
"""

import argparse

from milan_mm.errors import run_interruptible
from milan_mm.run import options


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
    options.add_img_size(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="also write the metrics to this JSON file, by name"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Evaluate and print; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    options.set_local_rank(args)
    # here, so that --help is quick
    from milan_mm.configs import load
    from milan_mm.run.errors import user_errors
    from milan_mm.run.metrics import check_output, why_no_metric, write_metrics
    from milan_mm.run.prepare import TEST, RunOptions, prepare
    from milan_mm.run.processes import is_main_process
    from milan_mm.run.training import check_testable, test

    with user_errors():
        if args.out:
            check_output(args.out)
        cfg = load(args.config)
        check_testable(cfg)  # before the checkpoint is read
        notes = prepare(cfg, RunOptions.of_test(args), TEST)
    with user_errors(cfg):
        metrics = test(cfg, args.checkpoint, notes)
    if not is_main_process():
        return
    for name, value in metrics.items():
        print(f"{name}: {round(float(value), 4)}")
    if not metrics:
        print(why_no_metric(cfg))
    if args.out:
        with user_errors():
            write_metrics(args.out, metrics)


if __name__ == "__main__":
    run_interruptible(main)
