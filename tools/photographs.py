#!/usr/bin/env python
"""The proof on photographs: does MILAN learn from real images, and is it the teacher's language?

A small CLIP is trained on 40 classes of 64-pixel photographs. A small ViT is pretrained on other
classes, without labels, in several ways that differ in one thing each, over several seeds. Each
encoder is judged by k-NN and a linear probe on frozen features, and by finetuning on 1 % and 10 %
of the labels. OUT/table.md has the numbers with their intervals, OUT/curve.png k-NN after each
epoch, OUT/pictures.png masks and attention on photographs. Those are ImageNet's: do not publish.

About 80 minutes on 2 idle cores. Finished parts are kept: the same command goes on where it
was.

Arms: scratch (untrained), mae, row-2, row-7 (of the paper's Table 4), milan, control (MILAN with a
teacher whose captions were shuffled), images (MILAN with a teacher that saw the same images without
captions), distillation (MILAN's target without masks and decoder).

Examples:
  python tools/photographs.py data/tiny-imagenet.tar.gz
  python tools/photographs.py DATA --arms mae,milan --seeds 5     # adds what is missing
  python tools/photographs.py DATA --teacher clip.safetensors --control shuffled.safetensors
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import UserError, run_interruptible
from milan_mm.files import write_whole
from milan_mm.run import options

if TYPE_CHECKING:
    from milan_mm.photographs.plan import Plan

DATA = Path("data/tiny-imagenet.tar.gz")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        default=DATA,
        metavar="DATA",
        help="archive of photographs, or a folder with {teacher,student}/{train,val}/CLASS/* and "
        f"classes.tsv ({DATA})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("work_dirs/photographs/study"),
        help="for results",
    )
    parser.add_argument("--arms", metavar="NAME", help="some of the arms, e.g. mae,milan (all)")
    parser.add_argument(
        "--seeds", type=options.positive, default=3, metavar="N", help="runs of each arm (3)"
    )
    parser.add_argument("--epochs", type=options.positive, metavar="N", help="of pretraining (3)")
    parser.add_argument(
        "--finetune-epochs",
        type=options.positive,
        metavar="N",
        help="with 1 %% of the labels (25); a fifth of it with 10 %%",
    )
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="a finished teacher, of tools/train_photographs_clip.py, instead of training one",
    )
    parser.add_argument("--control", metavar="FILE", help="that of the shuffled captions")
    parser.add_argument(
        "--image-teacher", metavar="FILE", help="that of images alone (--no-captions)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over instead of keeping finished parts"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm import early

    with early.early_errors():
        check_early(args)

    from milan_mm.evaluation import grid
    from milan_mm.run.errors import user_errors

    results = args.out / "results.jsonl"
    with user_errors():
        plan = prepare(args)
        try:
            with grid.stopping():
                for number, (title, cells) in enumerate(plan.steps.items(), start=1):
                    grid.say(f"{number}/{len(plan.steps)} {title}: {len(cells)} parts")
                    missing = grid.missing_cells(cells, results, "--fresh starts over")
                    grid.run_side_by_side(missing, results, min(2, os.cpu_count() or 1))
        finally:
            table = write_results(plan)
        write_figures(plan)
        grid.say(f"{table}\nTable, curve and pictures are in {args.out}, the numbers in {results}.")


def check_early(args: argparse.Namespace) -> None:
    """What can be checked before the libraries are imported, which takes seconds.

    Raises:
        MissingFileError, UserError: For photographs that are not there, or are not whole.
    """
    from milan_mm.photographs.data import find_photographs, read_classes

    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out '{args.out}' is a file: give a folder")
    read_classes(find_photographs(args.data))


def prepare(args: argparse.Namespace) -> "Plan":
    """Check everything, then write recipes and lists of labelled images into the folder.

    Raises:
        MissingFileError, UserError: For what cannot be run; the folder is then as it was.
    """
    from milan_mm.photographs import plan
    from milan_mm.photographs.arms import ARMS, CAPTIONS, SHUFFLED, VIEWS, choose_arms
    from milan_mm.photographs.data import find_photographs

    given = {CAPTIONS: args.teacher, SHUFFLED: args.control, VIEWS: args.image_teacher}
    return plan.prepare(
        plan.Wishes(
            root=find_photographs(args.data),
            out=args.out,
            arms=choose_arms(args.arms or ",".join(ARMS)),
            seeds=args.seeds,
            epochs=args.epochs,
            finetune_epochs=args.finetune_epochs,
            teachers={name: Path(file) for name, file in given.items() if file},
            fresh=args.fresh,
        )
    )


def write_results(plan: "Plan") -> str:
    """Write the table of what is finished; returns it."""
    from milan_mm.evaluation.results import read_rows
    from milan_mm.photographs.table import write_table

    out = plan.wishes.out
    table = write_table(read_rows(out / "results.jsonl"), plan.settings)
    write_whole(out / "table.md", table.encode())
    return table


def write_figures(plan: "Plan") -> None:
    """Write the curve, and the pictures of the encoders of seed 0."""
    from milan_mm.evaluation.results import read_rows
    from milan_mm.photographs import pictures
    from milan_mm.photographs.curve import save_curve
    from milan_mm.visualization.figure_files import save_figure

    out, arms = plan.wishes.out, plan.wishes.arms
    command = f"tools/photographs.py {plan.wishes.root} --out {out}"
    save_curve(read_rows(out / "results.jsonl"), out / "curve.png", command)
    drawn = [arm for arm in arms if arm.is_pretrained and arm.row not in (2, 7)]  # for the width
    files = {arm.name: plan.checkpoint(arm.name, 0) for arm in drawn}
    files |= plan.teacher_files
    encoders = pictures.titles_of(files)
    if not encoders:
        return
    milan = files.get("milan")
    photos = pictures.chosen_photos(plan.wishes.root)
    figure = pictures.pictures_figure(photos, milan, encoders)
    facts = dict(title="Masks and attention", caption=pictures.CAPTION, command=command)
    save_figure(figure, [out / "pictures.png"], facts)


if __name__ == "__main__":
    run_interruptible(main)
