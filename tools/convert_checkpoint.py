#!/usr/bin/env python
"""Convert a complete MILAN or MAE pretraining checkpoint between three layouts, bit for bit.

  milan_mm    checkpoints of this package: state_dict with backbone.* and decoder.*
  official    the authors' repositories of MILAN and MAE: model with blocks.* and decoder_blocks.*
  mmpretrain  mmpretrain's MILAN and MAE: state_dict with backbone.* and neck.*

The layout of SRC is detected. Position tables travel with the file. Optimizer states do not: a
training that starts from the new file starts with a fresh optimizer.

Examples:
  python tools/convert_checkpoint.py checkpoint-399.pth milan.pth --to milan_mm
  python tools/convert_checkpoint.py work_dirs/NAME/epoch_400.pth authors.pth --to official
  python tools/convert_checkpoint.py work_dirs/NAME/epoch_400.pth mmpretrain.pth --to mmpretrain
"""

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", metavar="SRC", help="checkpoint with encoder and decoder")
    parser.add_argument(
        "dst",
        metavar="DST",
        help="new file, replaced if it exists: .pth, or .safetensors for the tensors alone",
    )
    parser.add_argument(
        "--to", required=True, choices=["milan_mm", "official", "mmpretrain"], help="layout of DST"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Convert and print a report; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.engine.launch import user_errors
    from milan_mm.weights.converting import convert_checkpoint

    with user_errors():
        report = convert_checkpoint(args.src, args.dst, args.to)
    print(report)
    print(args.dst)


if __name__ == "__main__":
    main(sys.argv[1:])
