#!/usr/bin/env python
"""Judge pretrained encoders: k-NN, linear probe, finetuning, COCO and ADE20K, one row each.

Runs what has no row yet, one after another, and appends to OUT/results.jsonl; an interrupted run
goes on where it was. tools/report.py makes the table.

Examples:
  python tools/evaluate.py --weights mae.pth dino.pth --method MAE DINO --tasks knn,coco,ade20k
  python tools/evaluate.py --weights FILE --protocol short --data ROOT  # minutes on a CPU
  python tools/evaluate.py --weights FILE --tasks knn,linear --images DIR  # on your own classes
  python tools/evaluate.py --weights FILE --tasks coco --images DIR  # on your own COCO folder
  python tools/evaluate.py --weights FILE --tasks finetune --epochs 20  # a shorter protocol
  python tools/evaluate.py --weights FILE --tasks finetune --test-sets all  # ImageNet-A, -R ...
  python tools/evaluate.py --weights FILE --tensorboard  # tensorboard --logdir work_dirs/evaluate
  python tools/evaluate.py --weights FILE --parallel 8                 # on 8 GPUs
  python tools/evaluate.py --weights FILE --print-commands slurm-array  # for sbatch
"""

import argparse
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm import early
from milan_mm.datasets.variants import VARIANTS
from milan_mm.errors import MissingFileError, UserError, run_interruptible
from milan_mm.escaping import visible
from milan_mm.evaluation.tasks import LVIS, TASKS, USUAL, of_kind, seeded, trained
from milan_mm.run import options

FEATURES = ("cls_token", "avg", "pool")
KINDS = dict(classes="whole images", boxes="boxes", maps="label maps", depths="depth")

if TYPE_CHECKING:
    from milan_mm.evaluation.cells import EvaluationCell


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    options.add_weights(parser, nargs="+", required=True)
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="their systems, for the table (what the files are taken for)",
    )
    known = "; ".join(f"{title}: {', '.join(of_kind(kind))}" for kind, title in KINDS.items())
    parser.add_argument(
        "--tasks",
        type=task_names,
        default=list(USUAL),
        metavar="NAME,...",
        help=f"{known} (without this option: {','.join(USUAL)})",
    )
    parser.add_argument(
        "--protocol",
        choices=["paper", "short"],
        default="paper",
        help="paper: the recipes as published; short: a few iterations, to see that they run",
    )
    parser.add_argument(
        "--seeds",
        type=options.positive,
        default=1,
        metavar="N",
        help="runs of each training and probe (1)",
    )
    parser.add_argument(
        "--random",
        action="store_true",
        help="also judge an untrained encoder of the same shape, in every task",
    )
    options.add_img_size(parser, "; for tasks of one kind")
    options.add_batch_per_gpu(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/evaluate"), metavar="DIR", help="for results"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="ROOT",
        help="holds imagenet/, coco/, lvis_v1/, ade/ADEChallengeData2016/ and the like, see "
        "docs/transfer.md (data)",
    )
    data.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="your own images for tasks on whole images (train/CLASS/*, val/CLASS/*); if --tasks "
        "has none of these, for the others, laid out as for tools/train.py --data; tables call "
        "the data by the folder's name",
    )
    data.add_argument(
        "--det-data", type=Path, metavar="DIR", help="your own COCO folder, beside others"
    )
    data.add_argument(
        "--seg-data",
        type=Path,
        metavar="DIR",
        help="your own images and label maps, beside others",
    )
    data.add_argument(
        "--depth-data",
        type=Path,
        metavar="DIR",
        help="your own images and depth maps, beside others",
    )
    data.add_argument(
        "--test-sets",
        type=test_set_names,
        default=[],
        metavar="NAME,...",
        help="also test finetuned models and linear probes on variants of ImageNet, in folders of "
        f"--data: {', '.join(VARIANTS)}, or all",
    )
    frozen = parser.add_argument_group(
        "frozen features", "of tasks on whole images that train no encoder"
    )
    frozen.add_argument(
        "--features",
        type=Path,
        metavar="DIR",
        help="where features are kept and found again, also those of tools/extract.py "
        "(OUT/features)",
    )
    frozen.add_argument(
        "--pooling",
        choices=FEATURES,
        help="class token, mean of the patch tokens, or the encoder's own attention pooling, in "
        "k-NN and logistic regression (the class token; without one the encoder's own, or the "
        "mean)",
    )
    frozen.add_argument(
        "--crop-pct",
        type=options.crop_share,
        metavar="SHARE",
        help="share of the short side that the centre crop keeps (0.875, as 224 of 256)",
    )
    frozen.add_argument(
        "--shots",
        type=shots,
        metavar="N,...",
        help="images of each class in few-shot tasks (1,2,5,10)",
    )
    frozen.add_argument(
        "--draws", type=options.positive, metavar="N", help="draws of each few-shot subset (5)"
    )
    frozen.add_argument(
        "--subsets",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="lists of the training images of low-data's 1 %% and 10 %%, a name in each line, as "
        "SimCLR's; others are drawn",
    )
    options.add_schedule(parser)
    machines = parser.add_argument_group("machines")
    machines.add_argument(
        "--gpus",
        type=options.positive,
        metavar="N",
        help="processes of one training, one per GPU (1; in printed commands the recipe's number)",
    )
    machines.add_argument(
        "--parallel",
        type=options.positive,
        default=1,
        metavar="N",
        help="processes that share the work, each with --gpus GPUs of its own; the same command "
        "may also be started on several machines (1)",
    )
    machines.add_argument(
        "--print-commands",
        choices=["slurm", "torchrun", "slurm-array"],
        help="run nothing; slurm, torchrun: print the trainings that are missing, and the same "
        "command without this option then tests their checkpoints; slurm-array: print a batch "
        "script whose tasks share all of the work",
    )
    machines.add_argument(
        "--partition", default="PARTITION", metavar="NAME", help="of Slurm, for --print-commands"
    )
    options.add_trackers(parser)
    options.add_reading(parser)
    return parser.parse_args(argv)


def task_names(text: str) -> list[str]:
    """'knn,coco' to ['knn', 'coco'], in the order of `TASKS`."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in TASKS]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(TASKS)}")
    return [name for name in TASKS if name in names]


def shots(text: str) -> tuple[int, ...]:
    """'1,5' to (1, 5): some of those that the table has columns for."""
    known = [metric.name.removesuffix("-shot") for metric in TASKS["few-shot"].metrics]
    words = [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(known)}")
    return tuple(sorted({int(word) for word in words}))


def test_set_names(text: str) -> list[str]:
    """'imagenet-a,imagenet-r' to a list, in the order of `VARIANTS`."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in (*VARIANTS, "all")]:
        known = ", ".join([*VARIANTS, "all"])
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {known}")
    return [name for name in VARIANTS if name in names or "all" in names]


def main(argv: list[str] | None = None) -> None:
    """Run what is missing; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    with early.early_errors():
        check_options(args)
        check_paths(args)
    # here, so that --help is quick
    from milan_mm.evaluation import grid
    from milan_mm.run.errors import user_errors
    from milan_mm.run.silence import silence

    results = args.out / "results.jsonl"
    with user_errors():
        with silence():
            cells = plan(args)
        # a script that is printed begins with its first line
        with redirect_stdout(sys.stderr if args.print_commands else sys.stdout):
            missing = grid.missing_cells(cells, results)
    if args.print_commands:
        print_commands(missing, args, argv)
        return
    with grid.stopping():
        if args.parallel > 1 and missing:
            run_side_by_side(argv, args)
        else:
            facts = dict(command=options.command("evaluate", argv))
            failed = grid.run_in_turn(missing, results, facts)
            if failed:
                print(f"error: {len(failed)} of {len(missing)} cells failed", file=sys.stderr)
                sys.exit(1)
    grid.say(f"the numbers are in {results}; the table: python tools/report.py {results}")


def plan(args: argparse.Namespace) -> list["EvaluationCell"]:
    """Every cell, checked before anything runs."""
    from milan_mm.evaluation.candidates import read_candidates, untrained_candidates
    from milan_mm.evaluation.own_schedule import OwnSchedule
    from milan_mm.evaluation.planning import Evaluation
    from milan_mm.evaluation.trained_cells import TrainedCell
    from milan_mm.run.tracking import Tracking, check_trackers
    from milan_mm.weights.recognising import given_options

    check_options(args)
    check_paths(args)
    check_trackers(Tracking(args.tensorboard, args.wandb, args.mlflow).backends)
    schedule = OwnSchedule(args.epochs, args.iters, args.lr)
    schedule.check(args.tasks, args.protocol)
    own = own_folders(args)
    candidates = read_candidates(args.weights, args.method, **given_options(args))
    if args.random:
        candidates += untrained_candidates(candidates, args.out)
    evaluation = Evaluation(
        protocol=args.protocol,
        data=args.data,
        out=args.out,
        images=own.get("classes"),
        det_data=own.get("boxes"),
        seg_data=own.get("maps"),
        depth_data=own.get("depths"),
        num_processes=args.gpus or 1,
        batch_per_gpu=args.batch_per_gpu,
        schedule=schedule,
        img_size=args.img_size,
        trackers=options.tracker_words(args),
        tasks=tuple(args.tasks),
        store=args.features,
        shots=args.shots,
        draws=args.draws,
        pooling=args.pooling,
        subsets=tuple(args.subsets or ()),
        crop_pct=args.crop_pct,
    )
    cells = [
        evaluation.plan(candidate, task, seed)
        for task in args.tasks
        for candidate in candidates
        for seed in range(args.seeds if seeded([task]) else 1)
    ]
    classifiers = [c for c in cells if isinstance(c, TrainedCell) and c.is_of_images]
    cells += [evaluation.plan_variant(c, name) for c in classifiers for name in args.test_sets]
    notes = [note for lines in evaluation.notes.values() for note in lines]
    if evaluation.images:
        from milan_mm.evaluation.features import photo_notes

        notes += photo_notes(evaluation.images)
    for note in notes:
        print(visible(note), file=sys.stderr)
    for cell in cells:
        _ = cell.job  # raises when its batch cannot be split
    return cells


def check_paths(args: argparse.Namespace) -> None:
    """Look for the weights files and for the data of the tasks that have no folder of their own.

    Raises:
        MissingFileError: When one does not exist.
    """
    early.check_weights(*args.weights)
    if not _kinds(args.tasks) <= own_folders(args).keys() and not args.data.is_dir():
        raise MissingFileError(
            f"data folder '{args.data}' does not exist: link or unpack the data there, or pass "
            "--data ROOT"
        )


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that none of the tasks would read.

    Raises:
        UserError: Names the option, and the tasks that take it.
    """
    chosen = ",".join(args.tasks)
    kinds = _kinds(args.tasks)
    for option, folder, kind in (
        ("--det-data", args.det_data, "boxes"),
        ("--seg-data", args.seg_data, "maps"),
        ("--depth-data", args.depth_data, "depths"),
    ):
        if folder and kind not in kinds:
            suited = ", ".join(t for t in of_kind(kind) if TASKS[t].data != LVIS)
            raise UserError(f"{option} {folder} is for {suited}, not for --tasks {chosen}")
    if args.images and args.images not in own_folders(args).values():
        raise UserError(
            f"--images {args.images} is left without a task: --tasks {chosen} take --det-data, "
            "--seg-data and --depth-data; leave it out"
        )
    lvis = [task for task in args.tasks if TASKS[task].data == LVIS]
    if lvis and (folder := own_folders(args).get("boxes")):
        raise UserError(
            f"'{folder}' is not for --tasks {','.join(lvis)}, whose AP needs the annotations of "
            "LVIS: judge your own data with --tasks coco"
        )
    names = ("gpus", "batch_per_gpu", "tensorboard", "wandb", "mlflow")
    trainings = dict(seeds=args.seeds > 1 and not seeded(args.tasks))
    trainings |= {name: getattr(args, name) for name in names}
    if not trained(args.tasks) and any(trainings.values()):
        unread = next(name for name, value in trainings.items() if value).replace("_", "-")
        raise UserError(
            f"--{unread} is for trainings, and --tasks {chosen} trains nothing: leave it out"
        )
    pooled = {*of_kind("classes")} - {*trained()}
    for option, tasks in (
        ("pooling", pooled - {"linear-grid", "attentive"}),
        ("shots", {"few-shot", "few-shot-knn"}),
        ("draws", {"few-shot", "few-shot-knn", "low-data"}),
        ("subsets", {"low-data"}),
        ("crop_pct", pooled),
        ("features", pooled),
    ):
        if getattr(args, option) and not tasks & set(args.tasks):
            raise UserError(
                f"--{option.replace('_', '-')} is for {', '.join(sorted(tasks))}, not for --tasks "
                f"{chosen}"
            )
    check_test_sets(args)
    if args.partition != "PARTITION" and not args.print_commands:
        raise UserError(
            f"--partition {args.partition} is for --print-commands slurm and slurm-array"
        )
    if args.img_size and len(kinds) > 1:
        parted = " and ".join(",".join(of_kind(kind, args.tasks)) for kind in sorted(kinds))
        raise UserError(
            f"--img-size {args.img_size} for --tasks {parted}, which have images of different "
            "sizes: give --tasks of one kind"
        )
    if args.img_size and args.protocol == "short" and "classes" not in kinds:
        raise UserError(
            f"--img-size {args.img_size} and --protocol short exclude each other for {chosen}: a "
            "short run has a size of its own"
        )


def check_test_sets(args: argparse.Namespace) -> None:
    """Refuse test sets without a classifier of ImageNet-1K."""
    if not args.test_sets:
        return
    option = f"--test-sets {','.join(args.test_sets)}"
    if not of_kind("classes", trained(args.tasks)):
        suited = ", ".join(of_kind("classes", trained()))
        raise UserError(f"{option} tests classifiers: add one of {suited} to --tasks")
    if "classes" in own_folders(args) or args.protocol == "short":
        other = "--protocol short" if args.protocol == "short" else f"--images {args.images}"
        raise UserError(f"{option} needs classifiers of all of ImageNet-1K: leave out {other}")


def own_folders(args: argparse.Namespace) -> dict[str, Path]:
    """The user's own folder for each kind of data that has one, see `DataSet`.

    `--images` is for tasks on whole images; where none is chosen, for detection and segmentation.
    """
    kinds = _kinds(args.tasks)
    folders = dict.fromkeys(kinds & {"classes"} or kinds, args.images)
    given = dict(boxes=args.det_data, maps=args.seg_data, depths=args.depth_data)
    folders |= {kind: folder for kind, folder in given.items() if folder and kind in kinds}
    return {kind: folder for kind, folder in folders.items() if folder}


def _kinds(tasks: Iterable[str]) -> set[str]:
    """What kinds of data the tasks are on, see `DataSet`."""
    return {TASKS[task].data.kind for task in tasks}


def run_side_by_side(argv: list[str] | None, args: argparse.Namespace) -> None:
    """Let several processes share the work; exits with their highest code unless that is 0."""
    import torch

    from milan_mm.evaluation.sweep import devices_of, run_parallel
    from milan_mm.run.errors import user_errors

    words = sys.argv[1:] if argv is None else argv
    with user_errors():
        devices = devices_of(args.parallel, args.gpus or 1, torch.cuda.device_count())
    if code := run_parallel(words, devices, args.out):
        sys.exit(code)


def print_commands(
    missing: list["EvaluationCell"], args: argparse.Namespace, argv: list[str] | None
) -> None:
    """What is to be run: a line for each training that is missing, or a batch script."""
    from milan_mm.evaluation.trained_cells import TrainedCell, VariantCell

    if args.print_commands == "slurm-array":
        from milan_mm.evaluation.sweep import array_script

        words = sys.argv[1:] if argv is None else argv
        size = len({cell.claim for cell in missing}) or 1
        print(array_script(words, size, args.gpus or 1, args.partition), end="")
        return
    for cell in missing:
        if not isinstance(cell, TrainedCell):
            print(f"# {cell.title} trains nothing: the last command votes")
        elif isinstance(cell, VariantCell):
            print(f"# {cell.title}: the last command tests it")
        elif cell.is_trained:
            print(f"# {cell.title} is trained: the last command tests it")
        else:
            print(f"# {cell.title}\n{cell.command(args.print_commands, args.partition, args.gpus)}")
    print("# then the same command without --print-commands")


if __name__ == "__main__":
    run_interruptible(main)
