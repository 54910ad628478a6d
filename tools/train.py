#!/usr/bin/env python
"""Train any config: pretraining, detection, segmentation or classification.

Examples:
  python tools/train.py pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k
  python tools/train.py configs/det/NAME.py --weights ENCODER --work-dir work_dirs/det
  python tools/train.py configs/seg/NAME.py --quick        # four iterations, also on a CPU
  python tools/train.py CONFIG --batch-per-gpu 64          # same total batch, by accumulation
  python tools/train.py CONFIG --data DIR                  # your own images, see docs/start.md
  python tools/train.py CONFIG --cfg-options train_dataloader.dataset.data_root=DIR
"""

import argparse
import os
import sys

from milan_mm.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, or name of a recipe in configs/")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="pretrained encoder for model.backbone, of any system in docs/weights.md",
    )
    parser.add_argument("--layout", help="of --weights: names to expect, where several fit")
    parser.add_argument(
        "--system", help="of --weights: origin, where the most probable one is not the right one"
    )
    parser.add_argument(
        "--num-heads",
        type=int,
        metavar="N",
        help="of --weights: attention heads, where nothing tells them",
    )
    parser.add_argument(
        "--student", action="store_true", help="of --weights: of a self-distillation, the student"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few iterations and one validation batch, as a trial"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="own images instead of the recipe's: any folder tree for pretraining, an ImageFolder, "
        "a COCO folder, or images, annotations and classes.txt; see docs/start.md",
    )
    parser.add_argument(
        "--work-dir", metavar="DIR", help="for logs and checkpoints (work_dirs/NAME[-DATA][-quick])"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="go on from FILE, or from the last checkpoint in the work directory",
    )
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 mixed precision")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="on GPUs, compile the parts of a step: 1.4 times the images per second in "
        "pretraining, see docs/performance.md",
    )
    parser.add_argument(
        "--batch-per-gpu",
        type=int,
        metavar="N",
        help="most images that a GPU holds at once; the rest of the total batch is accumulated",
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
    """Train; exits with code 2 and one line after a mistake of the user."""
    args = parse_args(argv)
    if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd"))):  # no GPU
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # see milan_mm/engine/memory.py
    # here, so that --help answers at once
    from milan_mm.run import launch
    from milan_mm.run.encoder_weights import set_encoder_weights, set_load_report
    from milan_mm.run.training import train
    from milan_mm.weights.recognising import given_options

    options = given_options(args)
    with launch.user_errors():
        cfg, found = launch.load_config_and_data(args.config, args.cfg_options, args.data)
        if args.weights:
            names = [option.partition("=")[0] for option in args.cfg_options or []]
            found += set_encoder_weights(cfg, args.weights, fixed=names, **options)
        elif options:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in options)
            raise UserError(f"{given} tell how to read --weights FILE, which is not given")
        if args.amp:
            launch.set_amp(cfg)
        if args.compile:
            launch.set_compile(cfg)
        if args.batch_per_gpu is not None:
            launch.set_batch_per_gpu(cfg, args.batch_per_gpu, args.quick)
        launch.set_work_dir(cfg, args.work_dir, args.quick, args.data)
        set_load_report(cfg)
        notes = found + launch.fit_run(cfg, args.launcher, args.quick)
    with launch.user_errors(cfg):
        train(cfg, args.resume, notes)


if __name__ == "__main__":
    main(sys.argv[1:])
