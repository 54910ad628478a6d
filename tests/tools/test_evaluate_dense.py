"""Every dense task of tools/evaluate.py from the plan to the table; the trainings are stood in for.

A test reads its images, labels and settings from the evaluation's own config and feeds answers to
the metric that stands there, which names its numbers: those below follow from the answers.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image

from milan_mm.configs import load
from milan_mm.evaluation import grid, trained_cells
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.evaluation.results import read_results
from milan_mm.evaluation.tables import make_tables
from milan_mm.evaluation.tasks import TASKS, of_kind, trained
from milan_mm.run.jobs import Job, _command
from milan_mm.run.metrics import write_metrics
from tests.dense_layouts import IGNORED, LAYOUTS, write_layout
from tests.helpers import save_state, tiny_vit
from tests.tools.conftest import defined_by

SIDE, DEPTH_SIZE = 64, (480, 640)  # pixels; Eigen's crop is that of a whole image
BOXES = ((4.0, 4.0, 24.0, 24.0), (36.0, 36.0, 20.0, 20.0))  # x, y, w, h: of both categories
_HALF = 51 / 101  # AP of one object of two, over 101 recalls from 0 to 1
# Of the first category both boxes are right and one mask, of the second one box and its mask. mmdet
# rounds COCO's AP to three digits.
_COCO = {"box AP": 75.2, "mask AP": 50.5}
_LVIS = {"box AP": 50 * (1 + _HALF), "mask AP": 100 * _HALF}
_MIOU = {"mIoU": 37.5}  # 3/4 of the first class, nothing of the second
_DEPTH = {"RMSE (m)": 0.7, "abs rel": 0.35, "d1": 50.0}
# Of a task: its columns' title, and the numbers by what follows there.
NUMBERS: dict[str, tuple[str, dict[str, float]]] = {
    "coco": ("COCO", _COCO),
    "ade20k": ("ADE20K", _MIOU),
    "coco-cascade": ("COCO Cascade", _COCO),
    "coco-mask2former": ("COCO Mask2Former", _COCO),
    "coco-fcos": ("COCO FCOS", {"box AP": 75.2}),
    "lvis": ("LVIS", _LVIS),
    "lvis-cascade": ("LVIS Cascade", _LVIS),
    "ade20k-linear": ("ADE20K linear", _MIOU),
    "ade20k-mask2former": ("ADE20K Mask2Former", _MIOU),
    "cityscapes": ("Cityscapes", _MIOU),
    "cityscapes-linear": ("Cityscapes linear", _MIOU),
    "pascal-context": ("Pascal Context", _MIOU),
    "pascal-context-linear": ("Pascal Context linear", _MIOU),
    "coco-stuff": ("COCO-Stuff", _MIOU),
    "coco-stuff-linear": ("COCO-Stuff linear", _MIOU),
    "nyu-depth": ("NYU Depth v2 linear", _DEPTH),
}


# Data


def write_boxes(root: Path, names: Sequence[str], pattern: str) -> None:
    """Two images in each split, with an object of each of the first two categories.

    Args:
        names: Of all categories. pattern: Of the annotation files.
    """
    for split in ("train", "val"):
        images, annotations = [], []
        for number in range(2):
            name = f"{split}2017/{number:012d}.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(root / name)
            known = dict(neg_category_ids=[], not_exhaustive_category_ids=[])
            url = f"http://images.cocodataset.org/{name}"
            sizes = dict(height=SIDE, width=SIDE)
            images.append(dict(id=number, coco_url=url, **sizes, **known))
            if "lvis" not in pattern:
                images[-1]["file_name"] = Path(name).name
            for category, (x, y, w, h) in enumerate(BOXES, 1):
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                place = dict(bbox=[x, y, w, h], area=w * h, segmentation=[corners], iscrowd=0)
                ids = dict(id=len(annotations) + 1, image_id=number, category_id=category)
                annotations.append(ids | place)
        categories = [dict(id=i, name=name, frequency="f") for i, name in enumerate(names, 1)]
        file = root / "annotations" / pattern.format(split)
        file.parent.mkdir(exist_ok=True)
        content = dict(images=images, annotations=annotations, categories=categories)
        file.write_text(json.dumps(content))


def write_maps(data: str, root: Path) -> None:
    """Two images: all of the first class, half of the second class; or all two metres away."""
    size = DEPTH_SIZE if data == "nyu-depth" else (SIDE, SIDE)
    image = np.zeros((*size, 3), np.uint8)
    if data == "nyu-depth":
        write_layout(data, root, [(image, np.full(size, 2000))] * 2)
        return
    one, two = (np.zeros(size, np.uint8) for _ in range(2))
    two[:, SIDE // 2 :] = 1
    for labels in (one, two):
        labels[:4] = IGNORED
    write_layout(data, root, [(image, one), (image, two)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tiny encoder and all data sets."""
    for data in LAYOUTS:
        write_maps(data, tmp_path / "data")
    coco, lvis = (kind.METAINFO["classes"] for kind in (CocoDataset, LVISV1Dataset))
    write_boxes(tmp_path / "data/coco", coco, "instances_{}2017.json")
    write_boxes(tmp_path / "data/lvis_v1", lvis, "lvis_v1_{}.json")
    arch = dict(embed_dims=24, num_layers=4, num_heads=3)
    vit = tiny_vit(arch=arch, img_size=SIDE, patch_size=16)
    save_state(vit.state_dict(), tmp_path, "one.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What stands for a training and for a test


def train(jobs: Sequence[Job], num_parallel: int) -> Iterator[tuple[Job, float]]:
    """Leave what a training of this command leaves: its config, and its last checkpoint."""
    for job in jobs:
        args = defined_by("train")["parse_args"](_command(job)[2:])
        cfg, work_dir = load(args.config), Path(args.work_dir)
        work_dir.mkdir(parents=True, exist_ok=True)
        cfg.dump(work_dir / Path(args.config).name)
        meta = dict(iter=cfg.train_cfg.max_iters)
        torch.save(dict(meta=meta), work_dir / f"iter_{meta['iter']}.pth")
        yield job, 1.0


def run_test(title: str, name: str, arguments: Sequence[str], log: Path) -> None:
    """Measure the answers by the metric of the config, and write what it gives."""
    assert name == "test.py"
    args = defined_by("test")["parse_args"](arguments)
    assert Path(args.checkpoint).is_file()
    cfg = load(args.config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = dataset.metainfo
        for add in defined_by("test")["additions"](args):
            add(SimpleNamespace(test_evaluator=evaluator))
        for number in range(len(dataset)):
            sample = dataset[number]["data_samples"]
            answer(sample, number, cfg)
            evaluator.process([sample])
        metrics = evaluator.evaluate(len(dataset))
    write_metrics(args.out[0], metrics)


def answer(sample: BaseDataElement, number: int, cfg: Config) -> None:
    """Predict for an image: a number of a split. See the numbers above for what is right."""
    if cfg.model.type == "DepthEstimator":
        depth = 3.0 if number else 2.4  # of 2 m: only one is wrong by less than a factor of 1.25
        sample.set_data(dict(pred_depth_map=PixelData(data=torch.full((1, *DEPTH_SIZE), depth))))
    elif cfg.default_scope == "mmseg":
        labels = torch.zeros_like(sample.gt_sem_seg.data)
        labels[:, :4] = 5  # where nothing is labelled
        sample.set_data(dict(pred_sem_seg=PixelData(data=labels)))
    else:
        labels = torch.arange(1 if number else 2)
        x, y, w, h = torch.tensor(BOXES)[labels].T
        found = InstanceData(bboxes=torch.stack([x, y, x + w, y + h], 1), labels=labels)
        found.scores = 0.9 - 0.1 * number - 0.2 * labels
        if "segm" in cfg.test_evaluator.metric:
            found.masks = torch.zeros(len(labels), SIDE, SIDE, dtype=torch.bool)
            for mask, box in zip(found.masks, found.bboxes.int().tolist(), strict=True):
                left, top, right, bottom = box if number == 0 else (0, 0, 2, 2)
                mask[top:bottom, left:right] = True
        sample.set_data(dict(pred_instances=found))


# The promise


@pytest.mark.long
def test_every_dense_task_gives_its_rows_and_columns(
    folder: Path, call: Callable[..., None], capsys: pytest.CaptureFixture, monkeypatch
):
    dense = [task for task in trained() if TASKS[task].data.kind != "classes"]
    assert [*NUMBERS] == dense
    monkeypatch.setattr(grid, "run_jobs", train)
    monkeypatch.setattr(trained_cells, "run_tool", run_test)
    words = ("--weights", "one.pth", "--num-heads", "3", "--method", "MAE", "--protocol", "short")
    words = ("evaluate", *words, "--tasks", ",".join(dense), "--out", "out")
    call(*words)
    rows = read_results("out/results.jsonl")
    for task in dense:
        _, numbers = NUMBERS[task]
        own = [row for row in rows if row["task"] == task]
        assert [row["metric"] for row in own] == [metric.name for metric in TASKS[task].metrics]
        values = [row["value"] for row in own]
        assert values == pytest.approx([*numbers.values()], abs=1e-4), task
        assert {row["config"] for row in own} == {recipe_name(task, "w24d4")}
        assert {row["data"] for row in own} == {TASKS[task].data.name}
        assert own[0]["data_counts"] == dict(train=2, val=2)
        assert ("interval" in own[0]) == (TASKS[task].data.kind == "maps")
    (table,) = make_tables(rows)
    (line,) = table.lines
    shown = {
        column.title: [entry.shown(entry.mean) for entry in cell.entries]
        for column, cell in zip(table.columns, line.cells, strict=True)
    }
    assert shown == {
        f"{title} {name}": [f"{value:.{3 if title.startswith('NYU') and name != 'd1' else 1}f}"]
        for title, numbers in NUMBERS.values()
        for name, value in numbers.items()
    }
    call("report", "out/results.jsonl", "--html")
    call(*words)
    assert f"{len(dense)} of {len(dense)} cells are finished and kept" in capsys.readouterr().out
    assert read_results("out/results.jsonl") == rows


@pytest.mark.long
def test_patches_are_classified_on_every_data_set_of_label_maps(folder: Path, call):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, SIDE // 2 :] = 255  # the second class is white
    labels = (image[..., 0] > 0).astype(np.uint8)
    labels[:4] = IGNORED
    data = [name for name in LAYOUTS if name != "nyu-depth"]
    for name in data:
        pairs = [(image, labels), (image[:, ::-1], labels[:, ::-1])]
        write_layout(name, folder / "patches", pairs)
    tasks = [f"{name}-{ending}" for name in data for ending in ("knn", "logreg")]
    assert {*tasks} == {task for task in of_kind("maps") if not TASKS[task].recipe}
    words = ("--weights", "one.pth", "--num-heads", "3", "--data", "patches", "--out", "patches")
    call("evaluate", *words, "--tasks", ",".join(tasks))
    rows = read_results("patches/results.jsonl")
    assert [row["task"] for row in rows] == [task for task in TASKS if task in tasks]
    assert {row["value"] for row in rows} == {100.0}
    assert all("interval" not in row for row in rows)  # of two images without a mistake
    titles = [column.title for column in make_tables(rows)[0].columns]
    assert "Pascal Context k-NN of patches mIoU" in titles
