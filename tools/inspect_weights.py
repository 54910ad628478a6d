#!/usr/bin/env python
"""Say what a weights file is: layout, system, what loads or is dropped, what a task makes of it.

Nothing in the file is executed, and nothing is written.

Examples:
  python tools/inspect_weights.py beit_base_patch16_224_pt22k.pth
  python tools/inspect_weights.py FOLDER                    # of Hugging Face or timm
  python tools/inspect_weights.py dino_full.pth --student
"""

import argparse

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="weights file of any system in docs/weights.md, or its folder",
    )
    options.add_reading(parser, trust=True)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print what the file is; exits with code 2 and one line after a mistake."""
    args = parse_args(argv)
    with early.early_errors():
        early.check_weights(*args.files)
    # here, so that --help is quick
    from milan_mm.encoder.export.writing import formats_for
    from milan_mm.run.errors import user_errors
    from milan_mm.weights.inspecting import inspection
    from milan_mm.weights.recognising import given_options, read_encoder

    with user_errors():
        reading = given_options(args) | dict(trust_pickle=args.trust_pickle)
        for i, file in enumerate(args.files):
            encoder = read_encoder(file, **reading)
            print("\n" * (i > 0) + inspection(encoder))
            print(f"  exports       {', '.join(formats_for(encoder)) or 'none as it is'}")


if __name__ == "__main__":
    run_interruptible(main)
