#!/usr/bin/env python
"""Train any config: pretraining, detection, segmentation or classification.

Examples:
  python tools/train.py pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k
  python tools/train.py configs/det/NAME.py --weights ENCODER --work-dir work_dirs/det
  python tools/train.py configs/seg/NAME.py --quick        # four iterations, also on a CPU
  python tools/train.py CONFIG --epochs 20 --lr 1e-3        # the whole schedule, in 20 epochs
  python tools/train.py CONFIG --resume                    # go on after an interruption
  python tools/train.py CONFIG --init-from CHECKPOINT --work-dir DIR
  python tools/train.py CONFIG --batch-per-gpu 64          # same total batch, by accumulation
  python tools/train.py CONFIG --img-size 384              # positions and tests follow
  python tools/train.py CONFIG --replay nonfinite_iter_N.pth  # the step that was not finite
  python tools/train.py CONFIG --data DIR                  # your own images, see docs/start.md
  python tools/train.py CONFIG --tensorboard --knn-data DIR  # curves, and k-NN while it pretrains
  python tools/train.py CONFIG --cfg-options train_dataloader.dataset.data_root=DIR
"""

import argparse
import os

from milan_mm import early
from milan_mm.configs import find_config
from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_config(parser)
    options.add_weights(parser)
    options.add_run(
        parser,
        data="own images instead of the recipe's: any folder tree for pretraining, an ImageFolder, "
        "a COCO folder, or images, annotations and classes.txt; see docs/start.md",
        quick="a trial of a few iterations and one validation batch",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="go on with a run from FILE, or from the newest checkpoint in the work directory",
    )
    parser.add_argument(
        "--init-from",
        metavar="FILE",
        help="start a new run from all weights of a checkpoint; layers for other classes are new",
    )
    parser.add_argument(
        "--save-minutes",
        type=options.natural,
        default=options.SAVE_MINUTES,
        metavar="N",
        help="longest time between two checkpoints, whatever the recipe's interval "
        f"({options.SAVE_MINUTES}); 0: the interval alone",
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="repeat the step that ended a run (nonfinite_iter_N.pth), with the run's own command",
    )
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 mixed precision")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="on GPUs, compile the training step, see docs/performance.md",
    )
    parser.add_argument(
        "--fsdp",
        action="store_true",
        help="spread weights, gradients and optimizer over the processes, see docs/cluster.md",
    )
    options.add_schedule(parser)
    options.add_batch_per_gpu(parser)
    options.add_img_size(parser)
    options.add_trackers(parser)
    options.add_watching(parser)
    options.add_reading(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    with early.early_errors():
        find_config(args.config)
        early.check_own_data(args.data)
        early.check_weights(*filter(None, [args.weights, args.replay]))
    options.set_local_rank(args)
    if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd"))):  # no GPU
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # see milan_mm/engine/memory.py
    # here, so that --help is quick
    from milan_mm.configs import load
    from milan_mm.run.errors import user_errors
    from milan_mm.run.prepare import TRAINING, prepare
    from milan_mm.run.reasons import is_restart
    from milan_mm.run.replay import replay_report
    from milan_mm.run.run_options import RunOptions
    from milan_mm.run.start.origin import Start
    from milan_mm.run.start.resume import after_restart
    from milan_mm.run.training import train

    with user_errors():
        cfg = load(args.config)
        run = RunOptions.of_training(args, options.command("train", argv))
        notes = prepare(cfg, run, TRAINING)
        if args.replay:
            print("\n".join(replay_report(cfg, args.replay)))
            return
        start = Start(
            resume=args.resume,
            init_from=args.init_from,
            weights=args.weights is not None,
            new_length=args.epochs is not None or args.iters is not None,
            trial=args.quick,
            fixed=run.fixed,
        )
        if is_restart():
            start = after_restart(cfg, start)
    with user_errors(cfg):
        train(cfg, start, notes, args.save_minutes)


if __name__ == "__main__":
    run_interruptible(main)
