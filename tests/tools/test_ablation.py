"""tools/ablation.py as a user meets it: a whole small ablation, and one-line errors."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.configs import load
from milan_mm.evaluation.ablation import NO_SLIP
from milan_mm.evaluation.results import read_rows
from milan_mm.run.checks.files import check_data
from tests.tools.conftest import defined_by

SHORT = (
    *("--data", "images", "--out", "out"),
    *("--seeds", "1", "--epochs", "5", "--finetune-epochs", "5", "--labels", "32"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `images`: two classes of 17 training and 2 validation images."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 17), ("val", 2)):
        for name in ("dog", "cat"):
            place = tmp_path / "images" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tool() -> dict:
    """What tools/ablation.py defines."""
    return defined_by("ablation")


@pytest.fixture
def mistake(error_of: Callable[..., str]) -> Callable[..., str]:
    return lambda *arguments: error_of("ablation", *arguments)


@pytest.mark.long
def test_an_ablation_is_resumed_where_it_was_and_ends_with_a_table(
    folder: Path, warm, call, capsys
):
    def run(*arguments: str) -> str:
        call("ablation", *SHORT, *arguments)
        return capsys.readouterr().out

    run("--rows", "1")
    (first,) = read_rows("out/results.jsonl")
    assert (first["row"], first["seed"]) == (1, 0)
    assert first["value"] in (0, 25, 50, 75, 100)  # of 4 validation images
    log = (folder / "out/row-1_seed-0/finetune/output.log").read_text()
    assert re.search(r"encoder weights from \S*out/row-1_seed-0/pretrain/epoch_5\.pth", log)

    (folder / "out/row-9_seed-0/pretrain").mkdir(parents=True)  # an interrupted run leaves this
    said = run("--rows", "1,9")
    assert "1 of 2 cells are finished and kept (--fresh starts over)" in said
    rows = read_rows("out/results.jsonl")
    assert rows[0] == first
    assert sorted((row["row"], row["seed"]) for row in rows) == [(1, 0), (9, 0)]
    table = (folder / "out/table.md").read_text()
    assert f"| 1 | pixel | mae | uniform | {first['value']:.1f} | 1 | 83.0 |" in table
    assert re.search(r"\| 9 \| slip \| prompting \| semantic \| \d+\.\d \| 1 \| 84\.4 \|", table)
    assert table in said


@pytest.mark.long
def test_a_tool_that_is_ended_ends_its_trainings(folder: Path, repo_root: Path):
    command = [sys.executable, str(repo_root / "tools/ablation.py"), *SHORT, "--rows", "1"]
    command += ["--out", str(folder / "out")]
    tool = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = folder / "out/row-1_seed-0/pretrain/output.log"
    while not log.exists():
        assert tool.poll() is None
        time.sleep(0.1)
    tool.send_signal(signal.SIGTERM)
    _, said = tool.communicate(timeout=60)
    assert tool.returncode == 130
    assert said.endswith("interrupted: finished cells are kept, the same command goes on\n")
    assert not list(folder.glob("out/row-1_seed-0/*/last_checkpoint"))
    processes = subprocess.run(["ps", "-ef"], capture_output=True, text=True).stdout
    assert str(folder / "out") not in processes


@pytest.mark.parametrize("rows", ["0", "15", "1,x", "", "8,"])
def test_a_row_that_does_not_exist_is_named(mistake, rows):
    assert "is outside 1..14: give numbers like 1,2,8" in mistake("--rows", rows)


def test_zero_seeds_are_refused(mistake):
    assert "argument --seeds: 0: give 1 or more" in mistake("--seeds", "0")


def test_missing_data_are_named_and_nothing_is_written(folder: Path, mistake):
    assert "data folder 'gone' does not exist" in mistake("--data", "gone", "--out", "out")
    assert not (folder / "out").exists()


def test_a_class_that_validation_lacks_is_named_and_nothing_is_written(folder: Path, mistake):
    for file in (folder / "images/val/cat").iterdir():
        file.unlink()
    error = mistake("--data", "images", "--out", "out")
    assert "class 'cat' has 17 images in images/train and 0 in images/val" in error
    assert not (folder / "out").exists()


def test_fewer_images_than_a_batch_are_counted(folder: Path, mistake):
    for file in (folder / "images/train/dog").glob("1*.png"):
        file.unlink()
    error = mistake("--data", "images", "--out", "out")
    assert "26 training images in images/train, a batch has 32: add images" in error


def test_fewer_labels_than_a_batch_are_counted(folder: Path, mistake):
    error = mistake("--data", "images", "--out", "out", "--labels", "10")
    assert "10 labelled images, a batch has 32: raise --labels" in error


def test_a_teacher_that_is_no_file_is_named(folder: Path, mistake):
    error = mistake("--data", "images", "--out", "out", "--teacher", "gone.pt")
    assert "weights 'gone.pt' of teacher 'shapes-clip' could not be loaded" in error
    assert not (folder / "out").exists()


def test_all_nine_rows_are_prepared_by_default(folder: Path, tool: dict):
    plan = tool["prepare"](tool["parse_args"]([*SHORT]))
    assert list(plan.pretrain) == list(range(1, 10))
    assert not plan.missing
    slip = load(plan.pretrain[9]).model.head.teacher
    assert (slip.model_name, slip.pretrained) == ("vit_shapes_patch8_96", "shipped")


def test_splits_of_other_names_are_prepared_as_they_are_called(folder: Path, tool: dict):
    Path("images/train").rename("images/training")
    Path("images/val").rename("images/valid")
    plan = tool["prepare"](tool["parse_args"]([*SHORT, "--rows", "1"]))
    for config in (plan.pretrain[1], plan.finetune):
        check_data(load(config), ("train_dataloader", "val_dataloader"))


def test_row_9_beside_a_teacher_of_the_user_wants_one_too(folder: Path, tool: dict):
    args = tool["parse_args"]([*SHORT, "--rows", "8,9", "--teacher", "random"])
    plan = tool["prepare"](args)
    assert list(plan.pretrain) == [8]
    assert plan.missing == {9: NO_SLIP}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--rows", "10", "--row-teacher", "9=x"], "'9=x' is not ROW=FILE with a row of 10..14"),
        (["--rows", "8", "--row-teacher", "10=x.pth"], "names row 10, --rows does not: add it"),
        (["--rows", "10", "--row-teacher", "10=x.pth"], "weights file 'x.pth' does not exist"),
    ],
)
def test_a_mistake_about_the_teacher_of_a_row_is_named(folder: Path, mistake, arguments, error):
    assert error in mistake(*SHORT, *arguments)
    assert not (folder / "out").exists()


def test_row_9_is_added_to_other_rows_but_not_with_a_second_slip(folder: Path, tool: dict):
    for rows in ("1", "1,9", "1"):
        tool["prepare"](tool["parse_args"]([*SHORT, "--rows", rows]))
    settings = json.loads(Path("out/settings.json").read_text())
    assert settings["slip_teacher"] == "vit_shapes_patch8_96 shipped"
    Path("out/settings.json").write_text(json.dumps(settings | dict(slip_teacher="x mine.pt")))
    with pytest.raises(ValueError, match=r"slip_teacher is .*, the runs in 'out' had x mine\.pt"):
        tool["prepare"](tool["parse_args"]([*SHORT, "--rows", "1,9"]))


def test_results_of_other_settings_are_not_mixed(folder: Path, mistake):
    (folder / "out").mkdir()
    settings = dict(data=str(folder / "images"), images=[34, 4], labels=34, epochs=9)
    (folder / "out/settings.json").write_text(json.dumps(settings))
    error = mistake("--data", "images", "--out", "out", "--epochs", "5")
    assert "epochs is 5, the runs in 'out' had 9: choose another --out" in error
    assert "--fresh" in error


def test_a_folder_of_something_else_is_never_emptied(folder: Path, mistake):
    error = mistake("--data", "images", "--out", "images", "--fresh", "--epochs", "5")
    assert "'images' holds something other than an ablation" in error
    assert len(list((folder / "images/train/cat").iterdir())) == 17


def test_a_training_of_next_to_no_updates_is_refused_before_anything_is_written(folder, mistake):
    error = mistake("--data", "images", "--out", "out")
    assert "2 updates, fewer than 5: add images or --epochs N" in error
    assert not (folder / "out").exists()
