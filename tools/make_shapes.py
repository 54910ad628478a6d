"""Write the generated "shapes" data set in the layouts of ImageNet, COCO and ADE20K.

Examples:
  python tools/make_shapes.py    # what the demo and the shapes configs use
"""

import argparse
import sys
from pathlib import Path

from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "root", type=Path, nargs="?", default=Path("work_dirs/shapes"), help="folder to create"
    )
    parser.add_argument("--num-pretrain", type=int, default=6000, help="unlabelled train scenes")
    parser.add_argument("--num-train", type=int, default=400, help="det and seg train scenes")
    parser.add_argument("--num-val", type=int, default=200, help="validation scenes of every task")
    parser.add_argument("--size", type=int, default=96, help="side of a scene in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (0)")
    parser.add_argument(
        "--classes", default="shape", help="'shape' or 'colour' of the largest object, in imagenet/"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from milan_mm.shapes.files import write_shapes

    try:
        written = write_shapes(
            args.root,
            args.num_pretrain,
            args.num_train,
            args.num_val,
            args.seed,
            args.size,
            classes=args.classes,
        )
    except (ValueError, OSError) as error:
        print(f"make_shapes: {error}", file=sys.stderr)
        return 1
    print(f"shapes data set in {args.root}: {'written' if written else 'reused, nothing to do'}")
    return 0


if __name__ == "__main__":
    run_interruptible(main)
