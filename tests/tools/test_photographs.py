"""tools/photographs.py as a user meets it: a whole small study, its plan, and one-line errors."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from milan_mm.configs import load
from milan_mm.evaluation.results import read_rows
from milan_mm.photographs.models import create
from milan_mm.weights.storing import save_tensors
from tests.tools.conftest import defined_by

# 100 images of each class: 1 % of 3,200 is a batch of 32.
SMALL = ("--seeds", "1", "--epochs", "1", "--finetune-epochs", "30")
CLASSES, PER_CLASS = 32, 100


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes of a teacher and 32 of a student, each of one colour and noise."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    lines = ["folder\tname\trole"]
    for role, count, train in (("teacher", 2, 20), ("student", CLASSES, PER_CLASS)):
        for i in range(count):
            lines.append(f"{role[0]}{i:02}\t{role} {i}\t{role}")
            colour = rng.integers(0, 256, 3)
            for split, number in (("train", train), ("val", 2)):
                folder = root / role / split / f"{role[0]}{i:02}"
                folder.mkdir(parents=True)
                noise = rng.integers(-20, 20, (8, 8, 3))
                picture = Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))
                picture.resize((64, 64)).save(folder / "0.jpg")
                for n in range(1, number):
                    (folder / f"{n}.jpg").hardlink_to(folder / "0.jpg")
    (root / "classes.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a teacher that has learnt nothing."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "clip.safetensors"
    save_tensors(file, create().state_dict(), {})
    return file


@pytest.fixture
def mistake(
    error_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Call the tool in an empty folder, and see that it wrote nothing."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        error = error_of("photographs", *arguments)
        assert not list(tmp_path.glob("out*"))
        return error

    return run


@pytest.fixture
def plan_of(photographs: Path, tmp_path: Path) -> Callable:
    tool = defined_by("photographs")

    def run(*arguments: str):
        return tool["prepare"](
            tool["parse_args"]([str(photographs), *SMALL, "--out", str(tmp_path), *arguments])
        )

    return run


def test_the_plan_has_every_arm_and_its_labels_are_those_of_the_seed(plan_of, tmp_path):
    plan = plan_of("--seeds", "2")
    assert [len(cells) for cells in plan.steps.values()] == [3, 14, 19, 32]
    files = {(c.seed, c.part): set() for c in plan.finetunings}
    for cell in plan.finetunings:
        files[cell.seed, cell.part].add(cell.labelled)
        options = cell.job.arguments
        assert f"randomness.seed={cell.seed}" in options
        assert ("--weights" in options) == (cell.arm != "scratch")
    assert {len(lists) for lists in files.values()} == {1}
    texts = {key: file.read_text() for key, (file,) in files.items()}
    assert len(set(texts.values())) == 4
    assert [len(texts[0, share].splitlines()) for share in ("1 %", "10 %")] == [32, 320]
    for cell in plan.pretrainings:
        cfg = load(cell.config)
        assert cfg.train_cfg.max_epochs == 1
        assert cfg.train_dataloader.dataset.data_root.endswith("student")
    for arm, name in dict(milan="captions", control="shuffled", images="views").items():
        teacher = load(tmp_path / f"configs/{arm}.py").model.head.teacher
        assert teacher.pretrained == str(tmp_path / f"teachers/{name}.safetensors")
    arguments = {cell.arm: cell.job.arguments for cell in plan.teachers}
    assert ("--no-captions" in arguments["views"]) and ("--shuffled" in arguments["shuffled"])
    assert len(arguments["captions"]) == 3


def test_a_study_of_two_arms_needs_no_teacher_that_none_of_them_has(plan_of):
    assert plan_of("--arms", "scratch,mae").teachers == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gone.tar.gz"], "archive 'gone.tar.gz' does not exist: put it there, or unpack it"),
        (["gone"], "photographs 'gone' do not exist: give a folder"),
        (["DATA", "--arms", "mae,beit"], "--arms 'beit' is not an arm: give some of scratch,mae"),
        (["DATA", "--teacher", "gone.pt"], "teacher 'gone.pt' does not exist: tools/train_photo"),
        (["DATA", "--arms", "milan", "--image-teacher", "x"], "--image-teacher is given, and no"),
        (["DATA", "--arms", "mae", "--teacher", "x"], "no arm of --arms learns from it: leave it"),
        (["DATA", "--finetune-epochs", "1"], "updates, fewer than 5: add images or --finetune-ep"),
        (["DATA", "--seeds", "0"], "argument --seeds: 0: give 1 or more"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(mistake, photographs, arguments, error):
    given = [photographs if word == "DATA" else word for word in arguments]
    assert error in mistake(*given, "--out", "out")


def test_fewer_labels_than_a_batch_are_counted(mistake, photographs, tmp_path):
    few = tmp_path / "few"
    for split in ("train", "val"):
        for i in range(2):
            for role in ("teacher", "student"):
                source = photographs / role / split / f"{role[0]}{i:02}"
                target = few / role / split / source.name
                target.mkdir(parents=True)
                for file in source.iterdir():
                    (target / file.name).hardlink_to(file)
    text = (photographs / "classes.tsv").read_text().splitlines()
    kept = [line for line in text if line[1:3] in ("ol", "00", "01")]
    (few / "classes.tsv").write_text("\n".join(kept) + "\n")
    error = mistake(few, "--epochs", "9", "--out", "out")
    assert "2 labelled images (1 % of 200), a batch has 32: add images" in error


def test_a_teacher_of_another_size_is_named(mistake, photographs, teacher, tmp_path):
    tensors = create().state_dict()
    tensors["visual.conv1.weight"] = torch.zeros(128, 3, 16, 16)
    save_tensors(tmp_path / "wide.safetensors", tensors, {})
    error = mistake(photographs, "--out", "out", "--teacher", "wide.safetensors")
    assert "'wide.safetensors' is not a photos-clip: 'visual.conv1.weight' is (128, 3, 16" in error


def test_a_folder_of_something_else_is_never_emptied(mistake, photographs):
    student = photographs / "student"
    error = mistake(photographs, *SMALL, "--arms", "mae", "--out", student, "--fresh")
    assert "holds something other than a study of photographs: choose another --out" in error
    assert len(list(student.iterdir())) == 2


def test_results_of_other_settings_are_not_mixed(plan_of):
    plan_of("--arms", "mae")
    with pytest.raises(ValueError, match=r"epochs is 2, the runs in '.*' had 1: choose another"):
        plan_of("--arms", "mae", "--epochs", "2")


@pytest.mark.long
def test_a_study_is_resumed_where_it_was_and_ends_with_table_curve_and_pictures(
    photographs, teacher, warm, call, capsys, tmp_path
):
    def run(*arguments: str) -> str:
        options = (*SMALL, "--out", str(tmp_path / "out"), *arguments)
        call("photographs", str(photographs), *options)
        return capsys.readouterr().out

    run("--arms", "scratch")
    said = run("--arms", "scratch,milan", "--teacher", str(teacher))
    assert "1/4 teachers: 1 parts" in said
    assert said.count("are finished and kept (--fresh starts over)") == 2
    rows = read_rows(tmp_path / "out/results.jsonl")
    parts = sorted((row["arm"], row["part"]) for row in rows)
    assert len(parts) == len(set(parts)) + 2 * 2 + 3 + 2  # several metrics of a part
    curve = next(row for row in rows if row["part"] == "pretraining")
    assert [epoch for epoch, _ in curve["curve"]] == [0, 1]
    assert curve["processor_seconds"] > 1
    table = (tmp_path / "out/table.md").read_text()
    assert table in said
    assert re.search(r"\| MILAN \(row 8\) \| \d+\.\d \|", table)
    for name in ("curve.png", "pictures.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 300
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["epochs"] == 1
