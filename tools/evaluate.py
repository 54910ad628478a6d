#!/usr/bin/env python
"""Judge pretrained encoders: k-NN, linear probe, finetuning, COCO and ADE20K, one row each.

Runs what has no row yet, one after another, and appends to OUT/results.jsonl; an interrupted run
goes on where it was. tools/report.py makes the table.

Examples:
  python tools/evaluate.py --weights mae.pth dino.pth --method MAE DINO --tasks knn,coco,ade20k
  python tools/evaluate.py --weights FILE --protocol short --data ROOT  # minutes on a CPU
  python tools/evaluate.py --weights FILE --tasks knn,linear --images DIR  # on your own classes
  python tools/evaluate.py --weights FILE --print-commands slurm       # for a cluster
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import MissingFileError, UserError

if TYPE_CHECKING:
    from milan_mm.evaluation.cells import Cell

TASKS = ("knn", "linear", "finetune", "coco", "ade20k")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", nargs="+", required=True, metavar="FILE", help="encoders, of any system"
    )
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="their systems, for the table (what the files are taken for)",
    )
    parser.add_argument(
        "--tasks", type=task_names, default=list(TASKS), help=f"e.g. knn,coco ({','.join(TASKS)})"
    )
    parser.add_argument(
        "--protocol",
        choices=["paper", "short"],
        default="paper",
        help="paper: the recipes as published; short: a few iterations, to see that they run",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="ROOT",
        help="holds imagenet/, coco/ and ade/ADEChallengeData2016/ (data)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="for knn, linear and finetune, instead of ROOT/imagenet: train/CLASS/*, val/CLASS/*; "
        "tables call the data by the folder's name",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/evaluate"), metavar="DIR", help="for results"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="runs of each trained task (1)"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="processes of one training, one per GPU (1)",
    )
    parser.add_argument(
        "--batch-per-gpu",
        type=int,
        metavar="N",
        help="most images that a GPU holds at once; the rest of the total batch is accumulated",
    )
    parser.add_argument(
        "--layout", help="of all these files: names to expect, where a file fits several"
    )
    parser.add_argument(
        "--system", help="of all these files: origin, where it is not the most probable one"
    )
    parser.add_argument(
        "--num-heads", type=int, metavar="N", help="of all these files, where nothing tells them"
    )
    parser.add_argument(
        "--student", action="store_true", help="of self-distillations, take the students"
    )
    parser.add_argument(
        "--print-commands",
        choices=["slurm", "torchrun"],
        help="run nothing, print the trainings that are missing; the same command without this "
        "option then tests their checkpoints",
    )
    parser.add_argument(
        "--partition", default="PARTITION", metavar="NAME", help="of Slurm, for --print-commands"
    )
    return parser.parse_args(argv)


def task_names(text: str) -> list[str]:
    """'knn,coco' to ['knn', 'coco'], in the order of `TASKS`."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in TASKS]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(TASKS)}")
    return [name for name in TASKS if name in names]


def main(argv: list[str] | None = None) -> None:
    """Run what is missing; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    # here, so that --help answers at once
    from milan_mm.evaluation.results import read_rows
    from milan_mm.run.building import silence
    from milan_mm.run.launch import user_errors

    results = args.out / "results.jsonl"
    with user_errors():
        with silence():
            cells = plan(args)
        rows = read_rows(results)
    missing = [cell for cell in cells if not cell.is_in(rows)]
    if len(missing) < len(cells):
        say(f"{len(cells) - len(missing)} of {len(cells)} cells are finished and kept")
    if args.print_commands:
        print_commands(missing, args)
        return
    # else the trainings would outlive it
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed = []
    try:
        for i, cell in enumerate(missing, 1):
            say(f"{i}/{len(missing)} {cell.title}")
            try:
                run(cell, args, results)
            except RuntimeError as error:
                failed.append(cell)
                print(f"error: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        print(f"error: {len(failed)} of {len(missing)} cells failed", file=sys.stderr)
        sys.exit(1)
    say(f"the numbers are in {results}; the table: python tools/report.py {results}")


def plan(args: argparse.Namespace) -> list["Cell"]:
    """Every cell, checked before anything runs."""
    from milan_mm.evaluation.cells import plan_cell, read_encoders, training_job
    from milan_mm.weights.recognising import given_options

    for name in ("seeds", "gpus", "batch_per_gpu", "num_heads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    if not args.data.is_dir():
        raise MissingFileError(
            f"data folder '{args.data}' does not exist: link or unpack the data there, or pass "
            "--data ROOT"
        )
    encoders = read_encoders(args.weights, args.method, **given_options(args))
    cells = [
        plan_cell(encoder, task, seed, args.protocol, args.data, args.out, args.images)
        for task in args.tasks
        for encoder in encoders
        for seed in range(1 if task == "knn" else args.seeds)
    ]
    for cell in cells:
        if cell.config:
            training_job(cell, args.gpus, args.batch_per_gpu)  # a batch that does not split
    return cells


def run(cell: "Cell", args: argparse.Namespace, results: Path) -> None:
    """Train where that is not done yet, test, and append the rows."""
    from milan_mm.evaluation.cells import measure, result_rows, training_job
    from milan_mm.evaluation.results import append_rows
    from milan_mm.run.jobs import run_jobs

    started = time.monotonic()
    if cell.config and not cell.is_trained:
        for _ in run_jobs([training_job(cell, args.gpus, args.batch_per_gpu)], 1):
            pass
    rows = result_rows(cell, measure(cell), time.monotonic() - started)
    append_rows(results, rows)
    say("    " + ", ".join(f"{row['metric']} {number(row['value'])}" for row in rows))


def number(value: float | None) -> str:
    """A value in %, or 'undefined'."""
    return "undefined" if value is None else f"{value:.2f}"


def print_commands(missing: list["Cell"], args: argparse.Namespace) -> None:
    """A line for each training that is missing, and what comes then."""
    from milan_mm.evaluation.cells import commands

    for cell in missing:
        if cell.config is None:
            print(f"# {cell.title} trains nothing: the last command votes")
        elif cell.is_trained:
            print(f"# {cell.title} is trained: the last command tests it")
        else:
            print(f"# {cell.title}\n{commands(cell, args.print_commands, args.partition)}")
    print("# then the same command without --print-commands")


def say(text: str) -> None:
    """A line of progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
