"""tools/evaluate.py on the user's own detection and segmentation data."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation import trained_cells
from milan_mm.evaluation.candidates import read_candidates
from milan_mm.evaluation.planning import Evaluation
from milan_mm.evaluation.tables import make_tables
from tests.evaluation.rows import result
from tests.helpers import save_state, tiny_vit
from tests.run.own_data.folders import coco_folder, label_pairs
from tests.tools.conftest import defined_by
from tests.upkeep.convert.folders import yolo


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without data/, with a tiny encoder."""
    sizes = dict(embed_dims=24, num_layers=4, num_heads=3)
    vit = tiny_vit(arch=sizes, img_size=64, patch_size=16)
    save_state(vit.state_dict(), tmp_path, "one.pth")
    monkeypatch.chdir(tmp_path)


MAKERS: dict[str, Callable] = dict(coco=coco_folder, ade20k=label_pairs)
FIELDS = dict(coco="det_data", ade20k="seg_data")


def _cell(task: str, folder: str, protocol: str = "short"):
    (candidate,) = read_candidates(["one.pth"], None, num_heads=3)
    own = {FIELDS[task]: Path(folder)}
    evaluation = Evaluation(protocol, Path("data"), Path("out"), **own)
    return evaluation.plan(candidate, task, 0), evaluation.notes


@pytest.mark.parametrize("task", MAKERS)
def test_recipes_take_classes_and_images_of_the_folder(task: str):
    MAKERS[task](Path("mine"))
    cell, notes = _cell(task, "mine")
    cfg = load(cell.config)
    head = cfg.model.roi_head.bbox_head if task == "coco" else cfg.model.decode_head
    assert head.num_classes == 3
    assert cell.data == "mine" and None not in cell.data_hash.values()
    assert cfg.val_dataloader.dataset.metainfo.classes == ("blue", "green", "red")
    assert any(note.startswith(f"{task}: 3 classes") for note in notes[task])


def test_what_the_training_would_refuse_is_refused_before_anything_runs():
    path = coco_folder(Path("mine")) / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": "yes"', 1))
    with pytest.raises(UserError, match="has iscrowd 'yes'"):
        _cell("coco", "mine")


@pytest.mark.parametrize("task", MAKERS)
def test_folders_of_one_name_are_other_data(task: str):
    one, other = MAKERS[task](Path("a/mine")), MAKERS[task](Path("b/mine"))
    assert _cell(task, str(one))[0].identity == _cell(task, str(other))[0].identity
    if task == "coco":
        path = other / "annotations/instances_val2017.json"
        path.write_text(path.read_text().replace("[2, 3, 12, 14]", "[2, 3, 12, 13]"))
    else:
        (other / "images/val/1.png").rename(other / "images/val/2.png")
        (other / "annotations/val/1.png").rename(other / "annotations/val/2.png")
    a, b = (_cell(task, str(folder))[0] for folder in (one, other))
    assert a.data == b.data == "mine" and a.identity != b.identity
    assert a.work_dir != b.work_dir


@pytest.mark.parametrize(("task", "name"), [("coco", "COCO"), ("ade20k", "ADE20K")])
def test_a_folder_is_never_taken_for_the_published_data(task: str, name: str):
    MAKERS[task](Path(name))
    assert _cell(task, name)[0].data == f"{name} (own)"


def test_rows_of_own_data_are_not_ranked_with_those_of_coco():
    rows = [
        result("MAE", value=51.0, data_hash=dict(train="1", val="2")),
        result("MILAN", value=60.0, data="mine", data_hash=dict(train="3", val="4")),
    ]
    titles = {}
    for table in make_tables(rows):
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                for entry in cell.entries:
                    titles[line.method] = column.title, entry.best, entry.difference
    assert titles["MAE"][:2] == ("COCO box AP", False)
    assert titles["MILAN"] == ("mine box AP", False, None)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("--tasks knn,coco --images a", dict(classes="a")),  # as before: COCO is that of --data
        ("--tasks coco --images a", dict(boxes="a")),
        ("--tasks coco,ade20k --images a", dict(boxes="a", maps="a")),
        ("--tasks coco,ade20k --images a --seg-data b", dict(boxes="a", maps="b")),
        (
            "--tasks knn,linear,coco,ade20k --images a --det-data b --seg-data c",
            dict(classes="a", boxes="b", maps="c"),
        ),
        ("--tasks knn,coco --det-data b", dict(boxes="b")),
        ("--tasks knn", {}),
    ],
)
def test_which_task_takes_which_folder(arguments: str, wanted: dict):
    tool = defined_by("evaluate")
    args: argparse.Namespace = tool["parse_args"](["--weights", "one.pth", *arguments.split()])
    assert {k: str(v) for k, v in tool["own_folders"](args).items()} == wanted
    tool["check_options"](args)


def test_a_folder_of_another_program_is_named_before_anything_runs(error_of):
    yolo(Path("mine"))
    options = ("--weights", "one.pth", "--num-heads", "3", "--protocol", "short")
    said = error_of("evaluate", *options, "--tasks", "coco", "--images", "mine")
    assert "'mine' looks like an Ultralytics YOLO data set: convert it with" in said
    assert not Path("work_dirs").exists()


def test_boxes_without_masks_have_a_row_of_masks_that_is_undefined(monkeypatch):
    coco_folder(Path("mine"), masks=False)
    cell, _ = _cell("coco", "mine")
    assert load(cell.config).model.roi_head.mask_head is None
    cell.work_dir.mkdir(parents=True)
    shutil.copy(cell.config, cell.work_dir)  # as the training has written it

    def fake_test(*_: object) -> None:
        path = cell.work_dir / "test/metrics.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"coco/bbox_mAP": 0.25}))

    monkeypatch.setattr(trained_cells, "run_tool", fake_test)
    values = {row["metric"]: row["value"] for row in cell.rows()}
    assert values == {"box AP": 25.0, "mask AP": None}
