#!/usr/bin/env python
"""Evaluate a checkpoint: prints box and mask AP, mIoU, or whatever the config measures.

Example:
  python tools/test.py configs/det/NAME.py work_dirs/NAME/iter_184375.pth
"""

import argparse
import os
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or name of a recipe in configs/")
    parser.add_argument("checkpoint", help="checkpoint that was trained with this config")
    parser.add_argument(
        "--quick", action="store_true", help="one batch only; AP still counts all images"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="own images that the checkpoint was trained on with --data: its validation split",
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", help="for logs (work_dirs/NAME[-DATA][-quick])"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="override fields of the config"
    )
    # torch.distributed.launch passes it, with a hyphen or an underscore
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> None:
    """Evaluate and print; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.run import launch
    from milan_mm.run.training import test

    with launch.user_errors():
        cfg, found = launch.load_config_and_data(args.config, args.cfg_options, args.data)
        launch.set_work_dir(cfg, args.work_dir, args.quick, args.data)
        notes = found + launch.fit_run(cfg, args.launcher, args.quick, training=False)
    with launch.user_errors(cfg):
        metrics = test(cfg, args.checkpoint, notes)
    if launch.is_main_process():
        for name, value in metrics.items():
            print(f"{name}: {round(float(value), 4)}")
        if not metrics:
            print("no metric: no detection is above the config's score threshold, so AP is 0")


if __name__ == "__main__":
    main(sys.argv[1:])
