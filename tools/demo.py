"""The demo: pretrain a small ViT on generated scenes, transfer it, and write a report.

Pretrains with MILAN and, for comparison, with plain MAE settings, both continued from shipped
weights that were pretrained equally long. Then trains Mask R-CNN and UperNet from three encoders -
scratch, MAE, MILAN - with the same data, budget and seed. Everything runs through
`tools/train.py` and the configs of this package.

Example: python tools/demo.py
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

if TYPE_CHECKING:
    from milan_mm.run.jobs import Job

SCENES = Path("work_dirs/shapes")
PRETRAIN_BATCH, PRETRAIN_EPOCHS, TRANSFER_ITERS = 64, 1, 250
METRICS = {
    "det": {
        "box AP50": "coco/bbox_mAP_50",
        "box AP": "coco/bbox_mAP",
        "mask AP50": "coco/segm_mAP_50",
        "mask AP": "coco/segm_mAP",
    },
    "seg": {"mIoU": "mIoU", "pixel accuracy": "aAcc"},
}
CONFIGS = {
    "pretrain": "pretrain/{init}_vit-mini-p8_1xb64-coslr-1e_shapes-continued",
    "det": "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    "seg": "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
}
INTRODUCTION = """A ViT with 2.7 million parameters was pretrained on {num_pretrain} generated
scenes without labels, once with MILAN (CLIP features as target, semantic-aware sampling, prompting
decoder) and once with plain MAE settings (pixels, uniform sampling, MAE decoder).

Both pretrainings continued for {epochs} epoch(s) from weights that ship with the package;
those were pretrained equally long, by tools/pretrain_shapes.sh. The teacher is a small CLIP that
learned from the captions of other scenes, and ships with the package too.

The detector and the segmentor then saw {num_train} labelled scenes for {iterations} iterations; the
numbers below come from {num_val} unseen scenes."""


def main() -> None:
    args = parse_args()
    from milan_mm.configs import shipped_folder
    from milan_mm.evaluation.results import read_rows

    started = time.monotonic()
    out: Path = args.out
    if args.fresh:
        shutil.rmtree(out, ignore_errors=True)
    results = out / "results.jsonl"
    check_recipes(results)
    num_parallel = min(2, os.cpu_count() or 1)

    say("1/4 scenes: generating images, boxes, masks and labels")
    make_shapes = shipped_folder("tools") / "make_shapes.py"
    if subprocess.run([sys.executable, str(make_shapes), str(SCENES)]).returncode:
        sys.exit(1)
    scenes = json.loads((SCENES / "meta.json").read_text())
    say("2/4 pretraining: MILAN and MAE side by side; detection and segmentation come next")
    pretrain = pretrain_jobs(out, scenes["num_pretrain"])
    run_missing(pretrain, results, num_parallel)
    say("3/4 transfer: Mask R-CNN and UperNet from scratch, MAE and MILAN; the report comes next")
    transfer = transfer_jobs(out, pretrain)
    run_missing(transfer, results, num_parallel)
    say("4/4 report: drawing pictures")
    rows = read_rows(results)
    introduction = INTRODUCTION.format(epochs=PRETRAIN_EPOCHS, iterations=TRANSFER_ITERS, **scenes)
    report = write_report(out, rows, pretrain, transfer, introduction, num_parallel)

    for row in rows:
        print(f"{row['task']:<9}{row['init']:<8}{row['metric']:<16}{row['value']:>8.3f}")
    minutes = (time.monotonic() - started) / 60
    say(f"done in {minutes:.1f} minutes: open {report}; the numbers are in {results}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"), help="output folder")
    parser.add_argument(
        "--fresh", action="store_true", help="start over instead of keeping finished trainings"
    )
    return parser.parse_args()


def check_recipes(results: Path) -> None:
    """Refuse results of other recipes, which an update of the package can leave behind."""
    from milan_mm.evaluation.results import read_rows

    known = {recipe.format(init=init) for recipe in CONFIGS.values() for init in ("milan", "mae")}
    found = {row.get("config", "an older demo") for row in read_rows(results)} - known
    if found:
        print(
            f"error: '{results}' has numbers of {', '.join(sorted(found))}, this demo trains other "
            "recipes: start over with --fresh, or choose another --out",
            file=sys.stderr,
        )
        sys.exit(2)


def pretrain_jobs(out: Path, num_images: int) -> list["Job"]:
    from milan_mm.pretrain.teacher import ASSETS
    from milan_mm.run.jobs import Job

    num_iters = PRETRAIN_EPOCHS * (num_images // PRETRAIN_BATCH)
    return [
        Job(
            task="pretrain",
            init=init,
            config=CONFIGS["pretrain"].format(init=init),
            work_dir=out / f"pretrain_{init}",
            num_iters=num_iters,
            arguments=["--weights", str(ASSETS / f"{init}_mini_shapes.safetensors")],
        )
        for init in ("milan", "mae")
    ]


def transfer_jobs(out: Path, pretrain: list["Job"]) -> list["Job"]:
    from milan_mm.run.jobs import Job

    weights = {job.init: ["--weights", str(job.checkpoint)] for job in pretrain}
    return [
        Job(
            task=task,
            init=init,
            config=CONFIGS[task],
            work_dir=out / f"{task}_{init}",
            num_iters=TRANSFER_ITERS,
            arguments=weights.get(init, []),
        )
        for task in ("det", "seg")
        for init in ("scratch", "mae", "milan")
    ]


def run_missing(jobs: list["Job"], results: Path, num_parallel: int) -> None:
    """Run the jobs that have no rows yet, and append their rows."""
    from milan_mm.evaluation.results import append_rows, read_rows
    from milan_mm.run.jobs import run_jobs

    finished = {(row["task"], row["init"]) for row in read_rows(results)}
    missing = [job for job in jobs if (job.task, job.init) not in finished]
    if len(missing) < len(jobs):
        say(f"    {len(jobs) - len(missing)} finished trainings are kept (--fresh starts over)")
    for job in missing:
        shutil.rmtree(job.work_dir, ignore_errors=True)
    for job, seconds in run_jobs(missing, num_parallel):
        append_rows(results, result_rows(job, seconds))


def result_rows(job: "Job", seconds: float) -> list[dict]:
    """The numbers of a finished job, as rows of the results file."""
    logged = job.logged()
    if job.task == "pretrain":
        losses = [row["loss"] for row in logged if "loss" in row]
        values = {"loss, first": losses[0], "loss, last": losses[-1]}
    else:
        (validation,) = (row for row in logged if "loss" not in row)
        percent = 100 if job.task == "det" else 1  # mmdet logs shares, mmseg %
        values = {m: percent * validation[key] for m, key in METRICS[job.task].items()}
    facts = dict(task=job.task, init=job.init, config=job.config, seconds=round(seconds, 1))
    return [facts | dict(metric=metric, value=round(value, 6)) for metric, value in values.items()]


def write_report(
    out: Path,
    rows: list[dict],
    pretrain: list["Job"],
    transfer: list["Job"],
    introduction: str,
    num_parallel: int,
) -> Path:
    from PIL import Image

    from milan_mm.shapes.pictures import LEGENDS, pretraining_picture, transfer_picture
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
                "The first scenes of the validation set; the columns differ in the encoder that "
                f"the training started from.{note}",
                transfer_picture({job.init: job for job in by_task[task]}, num_images=4),
                LEGENDS[task],
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
    report.write_text(report_html(rows, figures, introduction, num_parallel), encoding="utf-8")
    return report


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
