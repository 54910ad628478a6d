"""tools/check_data.py as a user meets it: exit codes, the report, the sheet and the list."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TENCH = "n01440764"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an ImageNet of one class in the usual place."""
    for split in ("train", "val"):
        (tmp_path / "data/imagenet" / split / TENCH).mkdir(parents=True)
        for i in range(9):
            pixels = np.full((24, 32, 3), 20 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/imagenet/{split}/{TENCH}/{i}.JPEG")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def check(call: Callable[..., None]) -> Callable[..., int]:
    """Calls the tool and returns its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            call("check_data", *arguments, "--workers", "0")
        return stop.value.code

    return run


def test_sound_data_give_0_and_a_sheet_of_16_images(data, check, capsys):
    assert check("imagenet", "--allow-subset") == 0
    out = capsys.readouterr().out
    assert out.startswith("data/imagenet: no faults\n")
    assert "16 labelled images to look at are in work_dirs/check_data/imagenet.png" in out
    assert Image.open("work_dirs/check_data/imagenet.png").width > 4 * 320
    assert not Path("work_dirs/check_data/imagenet.txt").exists()


def test_faulty_data_give_1_and_every_name_in_a_list(data, check, capsys):
    for i in range(7):
        (data / f"data/imagenet/train/{TENCH}/{i}.JPEG").write_bytes(b"no image")
    assert check("imagenet", "--allow-subset", "--out", "sheet.png") == 1
    out = capsys.readouterr().out
    assert "fault: images cannot be read (7): " in out
    assert "- and 2 more, all are in sheet.txt" in out
    assert f"train/{TENCH}/6.JPEG" not in out
    assert f"train/{TENCH}/6.JPEG" in Path("sheet.txt").read_text()
    assert Path("sheet.png").is_file()


def test_a_subset_that_is_not_allowed_gives_1(data, check, capsys):
    assert check("imagenet") == 1
    assert "images in train: 9 of 1,281,167, 1,281,158 fewer" in capsys.readouterr().out


def test_a_repaired_data_set_leaves_no_list_behind(data, check):
    image = data / f"data/imagenet/val/{TENCH}/0.JPEG"
    content = image.read_bytes()
    image.write_bytes(b"no image")
    assert check("imagenet", "--allow-subset", "--out", "sheet.png") == 1
    image.write_bytes(content)
    assert check("imagenet", "--allow-subset", "--out", "sheet.png") == 0
    assert not Path("sheet.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coco"], "error: data folder 'data/coco' does not exist: link or unpack the data there"),
        (["imagenet", "--root", "gone"], "error: data folder 'gone' does not exist"),
        (["cls", "--data", "gone"], "error: data folder 'gone' does not exist"),
        (["coco", "--root", "file.json"], "error: data folder 'file.json' is not a folder"),
        (["imagenet", "--out", "sheet.jpg"], "error: --out 'sheet.jpg' does not end in .png"),
    ],
)
def test_mistakes_give_2_and_one_line(data, check, capfd, arguments, message):
    Path("file.json").touch()
    assert check(*arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


@pytest.mark.parametrize("task", ["pretrain", "cls"])
def test_own_folders_are_checked_for_their_task(data, check, capsys, task):
    shutil.copytree(f"data/imagenet/train/{TENCH}", "data/imagenet/train/other")
    assert check(task, "--data", "data/imagenet") == int(task == "cls")
    out = capsys.readouterr().out
    assert "images in data/imagenet/train: 18\n" in out
    assert ("'data/imagenet/val' has 1 class folder(s)" in out) == (task == "cls")


def test_own_classes_are_sent_to_their_own_check(data, check, capsys):
    Path(f"data/imagenet/train/{TENCH}").rename("data/imagenet/train/cats")
    assert check("imagenet", "--allow-subset") == 1
    assert "for your own classes use `cls` instead of `imagenet`" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["pretrain", "cls", "det", "seg"])
def test_own_data_need_their_folder(check, capfd, task):
    assert check(task) == 2
    assert f"error: {task} needs --data DIR" in capfd.readouterr().err


@pytest.mark.parametrize(("task", "place"), [("coco", "coco"), ("ade20k", "ade")])
def test_the_small_real_data_are_a_sound_subset(repo_root, tmp_path, check, capsys, task, place):
    root = repo_root / "data" / place
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    out = tmp_path / "sheet.png"
    assert check(task, "--root", str(root), "--allow-subset", "--out", str(out)) == 0, (
        capsys.readouterr().out
    )
    assert out.is_file()
