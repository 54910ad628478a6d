#!/usr/bin/env python
"""Train a small CLIP on photographs of some classes, to teach a student of other classes.

Captions are made of class names; open_clip's own model and loss learn from teacher/train only.
Then it is measured on val/ of the teacher's classes and of the student's: zero-shot accuracy, and
k-NN accuracy of its image features. The numbers go into the metadata of the safetensors file,
beside the command, the seed and the classes. On one thread the same command gives the same weights.

DATA is a folder with {teacher,student}/{train,val}/CLASS/* and classes.tsv (columns folder, name,
role), or an archive of it, which is unpacked into work_dirs/photographs.

Cost for 16,000 images of 64 px: 10 minutes and 1.3 GiB on one core, a minute of it for measuring;
12 minutes with --no-captions.

Examples:
  python tools/train_photographs_clip.py data/tiny-imagenet.tar.gz
  python tools/train_photographs_clip.py data/tiny-imagenet.tar.gz --shuffled     # a control
  python tools/train_photographs_clip.py data/tiny-imagenet.tar.gz --no-captions  # another
  python tools/train_photographs_clip.py DATA --evaluate --out clip.safetensors  # measure again

As a teacher: dict(type="milan_mm.CLIPTeacher", model_name="photos-clip", pretrained=FILE, ...)
"""

import argparse
import json
import os
import time
from pathlib import Path

from milan_mm import early
from milan_mm.errors import run_interruptible
from milan_mm.run import options


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("data", metavar="DATA", type=Path, help="folder or archive of photographs")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--shuffled",
        action="store_true",
        help="give the captions to the images at random, once: what is learnt is not language",
    )
    kinds.add_argument(
        "--no-captions",
        action="store_true",
        help="learn from two views of each image instead (SimCLR); the text tower stays random",
    )
    parser.add_argument("--seed", type=options.natural, default=0, metavar="N", help="(0)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="safetensors file (work_dirs/photographs/clip[_shuffled|_views].safetensors)",
    )
    parser.add_argument(
        "--threads", type=options.positive, default=1, metavar="N", help="CPU threads of torch (1)"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only measure the file named by --out"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train and measure; exits with code 2 after a mistake of the user."""
    args = parse_args(argv)
    from milan_mm.photographs.data import FOLDER, find_photographs, read_classes

    with early.early_errors():
        read_classes(find_photographs(args.data))
    if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd"))):  # no GPU
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # see milan_mm/engine/memory.py
    import torch

    from milan_mm.engine.memory import keep_freed_memory
    from milan_mm.photographs.arms import CAPTIONS, SHUFFLED, VIEWS
    from milan_mm.photographs.measures import evaluate
    from milan_mm.photographs.teacher import train_teacher
    from milan_mm.run.errors import user_errors

    torch.set_num_threads(args.threads)
    keep_freed_memory()
    name = SHUFFLED if args.shuffled else VIEWS if args.no_captions else CAPTIONS
    out = args.out or FOLDER / f"clip{'' if name == CAPTIONS else f'_{name}'}.safetensors"
    start = time.monotonic()
    with user_errors():
        root = find_photographs(args.data)
        if args.evaluate:
            numbers = evaluate(out, root)
        else:
            numbers = train_teacher(root, out, name, args.seed)
    print(json.dumps({key: round(value, 4) for key, value in numbers.items()}, indent=2))
    print(f"{out}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    run_interruptible(main)
