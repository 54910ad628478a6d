#!/usr/bin/env python
"""Cut the encoder out of a training checkpoint, as a safetensors file that --weights takes.

For checkpoints of this package, which describe their encoder completely. For files of other
systems, and options to read them, use tools/convert_checkpoint.py.

Example:
  python tools/export_encoder.py work_dirs/NAME/epoch_400.pth encoder.safetensors
"""

import argparse

from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("checkpoint", help="checkpoint of a pretraining or transfer run")
    parser.add_argument("out", help="new file, ending in .safetensors; replaced if it exists")
    parser.add_argument("--half", action="store_true", help="store float16, half the size")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Export and print what the file holds; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.run.errors import user_errors
    from milan_mm.weights.exporting import export_encoder

    with user_errors():
        metadata = export_encoder(args.checkpoint, args.out, half=args.half)
    print(args.out)
    for name, value in metadata.items():
        print(f"  {name}: {value}")


if __name__ == "__main__":
    run_interruptible(main)
