"""tools/convert_data.py as a user meets it: written, checked, what comes next; one-line errors."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from milan_mm.configs import load
from milan_mm.run.own_data import set_own_data
from milan_mm.upkeep.convert import KINDS
from tests.run.own_data.folders import coco_folder
from tests.tools.conftest import defined_by
from tests.upkeep.convert.folders import cvat, roboflow_masks, voc, yolo
from tests.upkeep.convert.test_cvat import BOXES

MAKERS = {
    "det": yolo,
    "seg": roboflow_masks,
}
RECIPES = dict(
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _convert(call: Callable[..., None], *arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        call("convert_data", *arguments, "--workers", "0")
    return int(stop.value.code or 0)


@pytest.mark.parametrize("task", MAKERS)
def test_a_folder_is_converted_checked_and_taken_by_data(call, capsys, tmp_path: Path, task: str):
    MAKERS[task](tmp_path / "in")
    assert _convert(call, "in", "out") == 0
    said = capsys.readouterr().out
    assert said.startswith("in: ") and "out: no faults" in said
    last = said.splitlines()[-1]
    assert last.startswith(f"next: python tools/train.py {task}/") and "--data out --quick" in last
    assert Path("work_dirs/check_data/out.png").is_file()
    assert set_own_data(load(RECIPES[task]), "out")


def test_the_kinds_of_the_help_are_those_that_are_read():
    assert set(defined_by("convert_data")["KINDS"]) == set(KINDS)


def test_what_the_check_finds_is_exit_code_1(call, capsys, tmp_path: Path):
    root = yolo(tmp_path / "in")
    photo = root / "images/val/0.jpg"
    photo.write_bytes((root / "images/train/0.jpg").read_bytes())
    assert _convert(call, "in", "out") == 1
    assert "images are in both splits" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "linked"), [("--link", True), ("--copy", False)])
def test_links_and_copies(call, tmp_path: Path, option: str, linked: bool):
    root = yolo(tmp_path / "in")
    _convert(call, "in", "out", option)
    first = Path("out/train/0.jpg")
    assert first.is_symlink() == linked
    assert os.path.samefile(first, root / "images/train/0.jpg") == linked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone", "out"), "'gone' does not exist: give the folder of your data"),
        (("in", "out", "--images", "gone"), "--images 'gone' is not a folder"),
        (("in", "in/out"), "'in/out' is inside of 'in': give a folder outside"),
        (("in", "full"), "'full' exists already: remove it, or give a new folder"),
        (("in", "out", "--workers", "-1"), "--workers: -1: give 0 or more"),
        (("in", "out", "--from", "voc"), "'in' has no XML files in Annotations/ or beside its"),
    ],
)
def test_a_mistake_is_one_line(error_of, tmp_path: Path, arguments: tuple, message: str):
    yolo(tmp_path / "in")
    Path("full").mkdir()
    Path("full/a.txt").touch()
    assert message in error_of("convert_data", *arguments)
    assert not Path("out").exists()


@pytest.mark.parametrize("number", ["2", "-0.1", "half"])
def test_a_share_is_a_share(error_of, tmp_path: Path, number: str):
    assert f"'{number}' is not a share, from 0 to 1" in error_of(
        "convert_data", "in", "out", f"--val-share={number}"
    )


FOREIGN = {
    "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes": (
        ("an Ultralytics YOLO data set", yolo),
        ("CVAT's 'CVAT for images' XML", lambda root: cvat(root, BOXES)),
        ("a Pascal VOC data set of boxes", lambda root: voc(root, dict(train=["a"]))),
    ),
    "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96": (
        ("Roboflow's masks (_classes.csv)", roboflow_masks),
    ),
}


@pytest.mark.parametrize(
    ("recipe", "title", "make"), [(r, *pair) for r, pairs in FOREIGN.items() for pair in pairs]
)
def test_data_says_what_a_folder_is_and_how_to_convert_it(tmp_path: Path, recipe, title, make):
    make(tmp_path / "mine")
    task = recipe[:3]
    with pytest.raises(ValueError) as refused:
        set_own_data(load(recipe), str(tmp_path / "mine"))
    assert str(refused.value) == (
        f"'{tmp_path}/mine' looks like {title}: convert it with python tools/convert_data.py "
        f"{tmp_path}/mine mine-{task}, then give --data mine-{task} to a recipe of {task}/"
    )


def test_a_fault_of_coco_files_is_not_hidden_by_that(tmp_path: Path):
    root = coco_folder(tmp_path / "mine")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"none of the categories|give both files the same list"):
        set_own_data(load("det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"), str(root))
