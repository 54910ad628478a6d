"""From the command to the first batch on a COCO file of full size: mmdet's data set and our start.

`python -m benchmarks.coco_start` writes an annotation file as large as COCO's, of the real
annotations of a small one repeated, into a temporary folder, and starts on it in turn:

- mmdet: its `CocoDataset`, without any check;
- recipe: our recipe's preparation, all checks, and its data set;
- --data: the same by `--data`.

Each runs in a process of its own. Time is that of the processor, without imports, which other work
on the machine disturbs least; memory is the process's peak.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

NUM_IMAGES, NUM_ANNOTATIONS = 118_287, 1_044_814  # of COCO 2017's training
ROLES = ("mmdet", "recipe", "--data")
_RECIPE = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
_MAX_LINKS = 30_000  # to one file; file systems stop at 65,000
_CHUNK = 1 << 22


def write_full_size(
    source: Path,
    target: Path,
    num_images: int = NUM_IMAGES,
    num_annotations: int = NUM_ANNOTATIONS,
) -> Path:
    """A folder in COCO's layout whose training part is `source`'s, repeated under new ids.

    Images are links to copies of those of `source`; the validation part is `source`'s own.

    Args:
        source: With annotations/instances_{train,val}2017.json, train2017 and val2017.

    Returns:
        The annotation file.
    """
    content = json.loads((source / "annotations/instances_train2017.json").read_text())
    (target / "annotations").mkdir(parents=True)
    val = "annotations/instances_val2017.json"
    shutil.copy(source / val, target / val)
    shutil.copytree(source / "val2017", target / "val2017")
    _link_images(content["images"], source / "train2017", target / "train2017", num_images)
    path = target / "annotations/instances_train2017.json"
    with path.open("w") as file:
        categories = json.dumps(content["categories"])
        file.write(f'{{"info": {{}}, "categories": {categories}, "images": [')
        _write_joined(file, _images(content["images"], num_images))
        file.write('], "annotations": [')
        _write_joined(file, _annotations(content, num_images, num_annotations))
        file.write("]}")
    return path


def start(role: str, root: Path) -> dict[str, float]:
    """Start on the folder as `role` says; seconds, and the peak memory of this process in GiB."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools is talkative
        run = _mmdet(root) if role == "mmdet" else _ours(root, by_data=role == "--data")
        next(run)  # imports
        begin = time.process_time()
        num_images = next(run)
        seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return dict(seconds=seconds, peak=peak, images=num_images)


def main(argv: list[str] | None = None) -> None:
    """Measure each role in turn, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=Path("data/coco"), metavar="DIR")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--temp", metavar="DIR", help="where there are 2 GB of space")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.role:
        print(json.dumps(start(args.role, args.source)))
        return
    with TemporaryDirectory(dir=args.temp) as folder:
        path = write_full_size(args.source, Path(folder, "coco"))
        print(f"{path.stat().st_size / 1e6:.0f} MB, {NUM_ANNOTATIONS:,} annotations")
        results: dict[str, list[dict]] = {role: [] for role in ROLES}
        for _ in range(args.rounds):
            for role in ROLES:
                results[role].append(_measure(role, path.parents[1]))
    print(table(results))


def table(results: dict[str, list[dict]]) -> str:
    """The best time and the highest peak of each role, and their ratios to mmdet's."""
    best = {role: min(r["seconds"] for r in runs) for role, runs in results.items()}
    peak = {role: max(r["peak"] for r in runs) for role, runs in results.items()}
    lines = ["| | s | times mmdet's | GiB | times mmdet's |", "|---|---|---|---|---|"]
    for role in results:
        times, memory = best[role] / best["mmdet"], peak[role] / peak["mmdet"]
        lines.append(
            f"| {role} | {best[role]:.1f} | {times:.2f} | {peak[role]:.2f} | {memory:.2f} |"
        )
    return "\n".join(lines)


def _measure(role: str, root: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.coco_start", f"--role={role}", f"--source={root}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _mmdet(root: Path) -> Iterator[int]:
    from mmdet.datasets import CocoDataset

    yield 0
    dataset = CocoDataset(
        data_root=str(root),
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=[],
    )
    yield len(dataset)


def _ours(root: Path, by_data: bool) -> Iterator[int]:
    from mmengine.registry import DATASETS, DefaultScope

    import milan_mm.datasets.coco.dataset  # noqa: F401 (an import of the run)
    from milan_mm.configs import load
    from milan_mm.run.checks.coco import check_coco
    from milan_mm.run.checks.files import check_data
    from milan_mm.run.prepare import TRAINING, prepare
    from milan_mm.run.run_options import RunOptions

    cfg = load(_RECIPE)
    loaders = ("train_dataloader", "val_dataloader")
    fields = []
    if not by_data:
        fields = [f"{loader}.dataset.data_root={root}" for loader in loaders]
        val = root / "annotations/instances_val2017.json"
        fields.append(f"val_evaluator.ann_file={val}")
    yield 0
    options = RunOptions(
        data=str(root) if by_data else None, cfg_options=fields, work_dir=str(root / "work")
    )
    prepare(cfg, options, TRAINING)
    check_data(cfg, loaders)
    check_coco(cfg, loaders)
    settings = dict(cfg.train_dataloader.dataset, pipeline=[])
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield len(DATASETS.build(settings))


def _link_images(images: list[dict], source: Path, target: Path, num_images: int) -> None:
    target.mkdir()
    originals: dict[int, Path] = {}
    for number in range(num_images):
        image = images[number % len(images)]
        place = target / f"{number:012d}.jpg"
        copies = number // len(images) // _MAX_LINKS
        original = originals.get(key := number % len(images) + len(images) * copies)
        if original is None:
            shutil.copy(source / image["file_name"], place)
            originals[key] = place
        else:
            os.link(original, place)


def _images(images: list[dict], num_images: int) -> Iterator[str]:
    for number in range(num_images):
        image = images[number % len(images)]
        yield json.dumps(image | dict(id=number, file_name=f"{number:012d}.jpg"))


def _annotations(content: dict, num_images: int, num_annotations: int) -> Iterator[str]:
    """In the order of the images; ends with the last image or the number."""
    by_image: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        kept = {k: v for k, v in annotation.items() if k not in ("id", "image_id")}
        by_image[annotation["image_id"]].append(json.dumps(kept)[1:])
    texts = list(by_image.values())
    own_id = 0
    for number in range(num_images):
        for rest in texts[number % len(texts)]:
            if own_id == num_annotations:
                return
            yield f'{{"id": {own_id}, "image_id": {number}, {rest}'
            own_id += 1


def _write_joined(file: io.TextIOBase, parts: Iterator[str]) -> None:
    waiting, size = [], 0
    first = True
    for part in parts:
        waiting.append(part if first else ", " + part)
        first = False
        size += len(part)
        if size > _CHUNK:
            file.write("".join(waiting))
            waiting, size = [], 0
    file.write("".join(waiting))


if __name__ == "__main__":
    main()
