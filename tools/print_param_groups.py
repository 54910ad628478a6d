#!/usr/bin/env python
"""Print which learning rate and weight decay every parameter of a config gets.

The optimizer is built as in training, on a model without weights: no data, no download, no GPU.
The factor multiplies the config's learning rate.

Examples:
  python tools/print_param_groups.py pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k
  python tools/print_param_groups.py configs/det/NAME.py --all
  python tools/print_param_groups.py CONFIG \\
      --cfg-options optim_wrapper.paramwise_cfg.no_decay_names=cls_token,mask_token
"""

import argparse
import signal

from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_config(parser)
    parser.add_argument("--all", action="store_true", help="list frozen parameters too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print the table and a summary; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.configs import load
    from milan_mm.engine.optim import group_summary, parameter_table
    from milan_mm.run.building import build_optimizer, build_without_memory
    from milan_mm.run.errors import user_errors
    from milan_mm.run.prepare import set_fields, set_recipe_names
    from milan_mm.run.run_options import RunOptions
    from milan_mm.run.silence import silence

    with user_errors(), silence():
        cfg = load(args.config)
        for step in (set_recipe_names, set_fields):
            step(cfg, RunOptions(cfg_options=args.cfg_options or ()))
        model = build_without_memory(cfg)
        optimizer = build_optimizer(cfg, model)
    print(parameter_table(model, optimizer, with_frozen=args.all))
    print()
    print(group_summary(model, optimizer.param_groups))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the reader may be `head`
    run_interruptible(main)
