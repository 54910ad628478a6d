#!/usr/bin/env python
"""The ablation of MILAN (Table 4 of arXiv 2208.06049) in miniature, with a table as its result.

Pretrains a tiny ViT in the nine ways of the table, finetunes each encoder on a few labelled images,
and writes OUT/table.md: top-1 over several seeds, next to the paper's numbers. Finished runs are
kept, so an interrupted ablation goes on where it was. Rows 10 to 14 have teachers beyond the paper:
SigLIP 2, DINOv3 and EVA-CLIP, whose files you give, and the shipped MAE and MILAN encoders.

Examples:
  python tools/ablation.py                                  # on generated scenes
  python tools/ablation.py --rows 1,2,7,8 --seeds 5
  python tools/ablation.py --rows 8,13,14                   # other teachers
  python tools/ablation.py --data DIR --out work_dirs/mine  # DIR/{train,val}/CLASS/*
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import UserError, run_interruptible
from milan_mm.files import write_whole
from milan_mm.run import options

if TYPE_CHECKING:
    from milan_mm.evaluation.ablation import AblationCell

NUM_ROWS, NUM_PUBLISHED = 14, 9
# Scenes as the demo's, sorted by the colour of the largest object: its shape stays a matter of
# chance after minutes of training. With 2,000 for validation, one standard error is 1 %.
SCENES = Path("work_dirs/shapes-colours")
SCENE_OPTIONS = [
    *("--classes", "colour"),
    *("--num-pretrain", "5000", "--num-train", "1", "--num-val", "2000"),
]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"images in train/CLASS/ and val/CLASS/ (default: {SCENES}/imagenet, generated)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("work_dirs/ablation"), help="for results"
    )
    parser.add_argument(
        "--rows",
        type=row_numbers,
        default=list(range(1, NUM_PUBLISHED + 1)),
        help=f"e.g. 1,2,8 (those of the paper, 1 to {NUM_PUBLISHED})",
    )
    parser.add_argument(
        "--seeds", type=options.positive, default=3, metavar="N", help="runs of each row (3)"
    )
    parser.add_argument("--epochs", type=options.positive, metavar="N", help="of pretraining")
    parser.add_argument(
        "--finetune-epochs", type=options.positive, metavar="N", help="of finetuning"
    )
    parser.add_argument(
        "--labels", type=options.positive, default=600, metavar="N", help="labelled images (600)"
    )
    parser.add_argument(
        "--teacher", metavar="FILE", default="shipped", help="weights of the CLIP, file or tag"
    )
    parser.add_argument(
        "--teacher-model", metavar="NAME", default="shapes-clip", help="its name in open_clip"
    )
    parser.add_argument(
        "--slip-teacher",
        metavar="FILE",
        help="weights of the teacher of row 9 (with the shipped CLIP: the shipped SLIP)",
    )
    parser.add_argument(
        "--slip-model", metavar="NAME", help="its name in timm (vit_base_patch16_224)"
    )
    parser.add_argument(
        "--row-teacher",
        type=row_and_file,
        metavar="ROW=FILE",
        action="append",
        default=[],
        help="encoder that teaches one of rows 10 to 14, any file that --weights of others takes",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over instead of keeping finished runs"
    )
    return parser.parse_args(argv)


def row_numbers(text: str) -> list[int]:
    """'1,2,8' to [1, 2, 8]."""
    rows = []
    for part in text.split(","):
        if not part.strip().isdigit() or not 1 <= int(part) <= NUM_ROWS:
            raise argparse.ArgumentTypeError(
                f"row '{part}' is outside 1..{NUM_ROWS}: give numbers like 1,2,8"
            )
        rows.append(int(part))
    return sorted(set(rows))


def row_and_file(text: str) -> tuple[int, str]:
    """'10=siglip.safetensors' to (10, 'siglip.safetensors')."""
    row, _, file = text.partition("=")
    first = NUM_PUBLISHED + 1
    if not row.isdigit() or not first <= int(row) <= NUM_ROWS or not file:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not ROW=FILE with a row of {first}..{NUM_ROWS}, e.g. "
            f"{first}=encoder.safetensors"
        )
    return int(row), file


def main(argv: list[str] | None = None) -> None:
    """Run what is missing; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.evaluation import grid
    from milan_mm.evaluation.ablation import write_table
    from milan_mm.evaluation.results import read_rows
    from milan_mm.run.errors import user_errors

    results = args.out / "results.jsonl"
    with user_errors():
        plan = prepare(args)
        cells = [plan.cell(row, seed) for seed in range(args.seeds) for row in plan.pretrain]
        missing = grid.missing_cells(cells, results, "--fresh starts over")
    for row, reason in plan.missing.items():
        grid.say(f"row {row} is left out: {reason}")
    try:
        with grid.stopping():
            grid.run_side_by_side(missing, results, min(2, os.cpu_count() or 1))
    finally:
        table = write_table(read_rows(results), plan.missing)
        write_whole(args.out / "table.md", table.encode())
    grid.say(f"{table}\nThis table is in {args.out / 'table.md'}, the numbers in {results}.")


@dataclass
class Plan:
    """What is to be run.

    Attributes:
        out: Folder of the results. pretrain: Config file of each row. finetune: That of all rows.
        iterations: Of one pretraining and of one finetuning.
        missing: Why a row that was asked for cannot run.
    """

    out: Path
    pretrain: dict[int, Path]
    finetune: Path
    iterations: tuple[int, int]
    missing: dict[int, str]

    def cell(self, row: int, seed: int) -> "AblationCell":
        """Pretraining, followed by finetuning."""
        from milan_mm.evaluation.ablation import AblationCell
        from milan_mm.run.jobs import Job

        folder = self.out / f"row-{row}_seed-{seed}"
        arguments = ["--cfg-options", f"randomness.seed={seed}"]
        finetune, pretrain = (
            Job(
                task=task,
                init=f"row {row} seed {seed}",
                config=str(config),
                work_dir=folder / task,
                num_iters=num_iters,
                arguments=arguments,
            )
            for task, config, num_iters in (
                ("finetune", self.finetune, self.iterations[1]),
                ("pretrain", self.pretrain[row], self.iterations[0]),
            )
        )
        return AblationCell(row, seed, replace(pretrain, follow_up=finetune))


def prepare(args: argparse.Namespace) -> Plan:
    """Check data, teachers and the results folder, then write the recipes into it.

    Raises:
        MissingFileError, UserError: For what cannot be run; the folder is then as it was.
    """

    from milan_mm.configs import load
    from milan_mm.datasets.folders import EXTENSIONS, find_class_folders
    from milan_mm.evaluation import ablation
    from milan_mm.evaluation.study import (
        check_count,
        check_updates,
        enter_folder,
        fingerprint,
        iterations,
    )
    from milan_mm.registry import MODELS

    root = args.data or generated_scenes()
    images, num_val = ablation.images_by_class(root)
    mini = load(ablation.PRETRAIN)
    finetune = load(ablation.FINETUNE)
    for cfg, epochs in ((mini, args.epochs), (finetune, args.finetune_epochs)):
        if epochs:
            ablation.set_epochs(cfg, epochs)
    for cfg, split in ((mini, "train"), (finetune, "train"), (finetune, "val")):
        folder = find_class_folders(root, split)
        cfg[f"{split}_dataloader"].dataset.update(
            data_root=str(root), data_prefix=folder.name, extensions=EXTENSIONS
        )
    finetune.model.head.num_classes = len(images)
    finetune.train_dataloader.dataset.ann_file = str((args.out / "labelled.txt").resolve())
    labelled = ablation.choose_labelled(images, args.labels)
    num_train = sum(map(len, images.values()))
    check_count(num_train, mini, f"training images in {root / 'train'}", "add images")
    check_count(len(labelled), finetune, "labelled images", "raise --labels, or add images")
    ablation.limit_warm_up(mini, iterations(mini, num_train))
    ablation.limit_warm_up(finetune, iterations(finetune, len(labelled)))

    teacher = mini.model.head.teacher
    teacher.update(model_name=args.teacher_model, pretrained=args.teacher)
    mini.model.decoder.target_dims = MODELS.build(teacher).target_dims
    rows = {row: load(ablation.row_recipe(row)) for row in args.rows}
    second, missing = None, {}
    files = ablation.STAND_INS | dict(args.row_teacher)
    further = {row: file for row, file in sorted(files.items()) if row in rows}
    if spare := sorted(set(dict(args.row_teacher)) - set(rows)):
        raise UserError(f"--row-teacher names row {spare[0]}, --rows does not: add it there")
    slip = args.slip_teacher or ("shipped" if args.teacher == "shipped" else None)
    if slip and 9 in rows:
        second = ablation.slip_settings(rows[9], mini, slip, args.slip_model)
        MODELS.build(second)
    elif rows.pop(9, None):
        missing[9] = ablation.NO_SLIP
    for row in [row for row in rows if row > NUM_PUBLISHED and row not in further]:
        missing[row] = ablation.NO_FILE.format(row=row)
        del rows[row]
    others = {row: ablation.file_settings(mini, file) for row, file in further.items()}
    recipes = {
        row: ablation.miniature(cfg, mini, others.get(row, second)) for row, cfg in rows.items()
    }

    check_updates(iterations(mini, num_train), "--epochs")
    check_updates(iterations(finetune, len(labelled)), "--finetune-epochs")
    settings = dict(
        data=str(root.resolve()),
        images=[num_train, num_val],
        labels=len(labelled),
        epochs=mini.train_cfg.max_epochs,
        finetune_epochs=finetune.train_cfg.max_epochs,
        teacher=f"{args.teacher_model} {args.teacher}",
        recipes=fingerprint(mini, finetune),
    )
    if second:
        settings["slip_teacher"] = f"{second['model_name']} {second['pretrained']}"
    settings |= {f"row_{row}_teacher": file for row, file in further.items()}
    enter_folder(args.out, settings, args.fresh, "an ablation")
    write_whole(args.out / "labelled.txt", ("\n".join(labelled) + "\n").encode())
    folder = args.out / "configs"
    folder.mkdir(exist_ok=True)
    for row, cfg in recipes.items():
        cfg.dump(folder / f"row-{row}.py")
    finetune.dump(folder / "finetune.py")
    return Plan(
        out=args.out,
        pretrain={row: folder / f"row-{row}.py" for row in recipes},
        finetune=folder / "finetune.py",
        iterations=(iterations(mini, num_train), iterations(finetune, len(labelled))),
        missing=missing,
    )


def generated_scenes() -> Path:
    """The default data, which are written when they are missing."""
    from milan_mm.configs import shipped_folder

    make_shapes = shipped_folder("tools") / "make_shapes.py"
    if subprocess.run([sys.executable, str(make_shapes), str(SCENES), *SCENE_OPTIONS]).returncode:
        sys.exit(2)  # it has said why
    return SCENES / "imagenet"


if __name__ == "__main__":
    run_interruptible(main)
