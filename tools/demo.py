"""The demo: pretrain a small ViT on generated scenes, transfer it, and write a report.

Pretrains with MILAN and, for comparison, with plain MAE settings, both continued from shipped
weights that were pretrained equally long. Then trains Mask R-CNN and UperNet from three encoders -
scratch, MAE, MILAN - with the same data, budget and seed. Everything runs through
`tools/train.py` and the configs of this package.

Examples:
  python tools/demo.py
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import run_interruptible
from milan_mm.files import write_whole
from milan_mm.run import options
from milan_mm.text import count

if TYPE_CHECKING:
    from milan_mm.run.jobs import Job

SCENES = Path("work_dirs/shapes")
INTRODUCTION = """A ViT with 2.7 million parameters was pretrained on {num_pretrain} generated
scenes without labels, once with MILAN (CLIP features as target, semantic-aware sampling, prompting
decoder) and once with plain MAE settings (pixels, uniform sampling, MAE decoder).

Both pretrainings continued for {epochs} from weights that ship with the package;
those were pretrained equally long, by tools/pretrain_shapes.sh. The teacher is a small CLIP that
learned from the captions of other scenes, and ships with the package too.

The detector and the segmentor then saw {num_train} labelled scenes for {iterations} iterations; the
numbers below come from {num_val} unseen scenes."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; nothing heavy is imported for it."""
    parser = options.tool_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"), help="output folder")
    parser.add_argument(
        "--fresh", action="store_true", help="start over instead of keeping finished trainings"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing; exits with code 2 after a mistake of the user, 1 after a failed run."""
    args = parse_args(argv)
    # here, so that --help is quick
    from milan_mm.configs import shipped_folder
    from milan_mm.evaluation.grid import missing_cells, run_side_by_side, say, stopping
    from milan_mm.evaluation.results import read_rows
    from milan_mm.run.errors import user_errors
    from milan_mm.shapes import demo

    started = time.monotonic()
    out: Path = args.out
    if args.fresh:
        shutil.rmtree(out, ignore_errors=True)
    results = out / "results.jsonl"
    with user_errors():
        demo.check_recipes(results)
    num_parallel = min(2, os.cpu_count() or 1)

    def run(cells: list[demo.DemoCell]) -> None:
        missing = missing_cells(cells, results, "--fresh starts over")
        run_side_by_side(missing, results, num_parallel)

    say("1/4 scenes: generating images, boxes, masks and labels")
    make_shapes = shipped_folder("tools") / "make_shapes.py"
    if subprocess.run([sys.executable, str(make_shapes), str(SCENES)]).returncode:
        sys.exit(1)
    scenes = json.loads((SCENES / "meta.json").read_text())
    with stopping():
        say("2/4 pretraining: MILAN and MAE side by side; detection and segmentation come next")
        pretrain = demo.pretrain_cells(out, scenes["num_pretrain"])
        run(pretrain)
        say("3/4 transfer: Mask R-CNN and UperNet from scratch, MAE and MILAN; then the report")
        transfer = demo.transfer_cells(out, {c.job.init: c.job.checkpoint for c in pretrain})
        run(transfer)
    say("4/4 report: drawing pictures")
    rows = read_rows(results)
    introduction = INTRODUCTION.format(
        epochs=count(demo.PRETRAIN_EPOCHS, "epoch"), iterations=demo.TRANSFER_ITERS, **scenes
    )
    report = write_report(
        out,
        rows,
        [cell.job for cell in pretrain],
        [cell.job for cell in transfer],
        introduction,
        num_parallel,
    )

    for row in rows:
        print(f"{row['task']:<9}{row['init']:<8}{row['metric']:<16}{row['value']:>8.3f}")
    minutes = (time.monotonic() - started) / 60
    say(f"done in {minutes:.1f} minutes: open {report}; the numbers are in {results}")


def write_report(
    out: Path,
    rows: list[dict],
    pretrain: list["Job"],
    transfer: list["Job"],
    introduction: str,
    num_parallel: int,
) -> Path:
    """Draw the pictures, and put them and the numbers into one page."""
    from PIL import Image

    from milan_mm.shapes.pictures import pretraining_picture, transfer_picture
    from milan_mm.shapes.report import Figure, report_html

    by_task = {task: [j for j in transfer if j.task == task] for task in ("det", "seg")}
    figures = [
        Figure(
            "MILAN: where it looks, what it keeps, what is hard",
            "Scenes that no training saw. Patches are drawn by the teacher's class attention, so "
            "where it looks they are likelier to be kept. Brighter ones have a higher loss.",
            pretraining_picture(pretrain[0], num_images=4),
        ),
        Figure(
            "MAE: uniform sampling and pixels",
            "The same scenes under the MAE settings.",
            pretraining_picture(pretrain[1], num_images=4),
        ),
        *(
            Figure(
                title,
                "Scenes of the validation set; the columns differ in the encoder that "
                f"the training started from.{note}",
                transfer_picture({job.init: job for job in by_task[task]}, num_images=4),
            )
            for task, title, note in (
                ("det", "Detections", " Shown are detections with a score of 0.5 or more."),
                ("seg", "Segmentations", ""),
            )
        ),
    ]
    for name, figure in zip(("milan", "mae", "det", "seg"), figures, strict=True):
        Image.fromarray(figure.picture).save(out / f"{name}.png")
    report = out / "report.html"
    write_whole(report, report_html(rows, figures, introduction, num_parallel).encode())
    return report


if __name__ == "__main__":
    run_interruptible(main)
