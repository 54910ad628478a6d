"""tools/extract.py as a user meets it; what it writes is tested in tests/evaluation/frozen."""

import os
from pathlib import Path

import pytest

from milan_mm.evaluation.frozen.store import Store
from milan_mm.shapes.files import write_shapes
from tests.helpers import save_state, tiny_vit
from tests.small_data import imagenet_of

WORDS = ("--weights", "one.pth", "--num-heads", "4", "--data", "imagenet", "--workers", "0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tiny encoder and images of both splits."""
    write_shapes(tmp_path / "shapes", 24, 4, 3, size=64, progress=False)
    imagenet_of(tmp_path / "shapes", tmp_path)
    save_state(tiny_vit().state_dict(), tmp_path, "one.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_split_has_a_folder_that_is_named(folder, call, capsys):
    call("extract", *WORDS, "--blocks", "-2", "-1", "--pooling", "avg", "cls_token")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["train", "val"]
    for line in lines:
        store = Store.open(line.rpartition(": ")[2])
        assert store.read("avg").features.shape[1:] == (2, 48)
        assert store.spec.needs.blocks == (1, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "gone"), "data folder 'gone' does not exist"),
        (("--pooling", "pool"), "attention pooling of its own: pass --pooling avg or cls_token"),
        (("--blocks", "7"), "--blocks 7: one.pth has blocks 0 to 2"),
        (("--crop-pct", "2"), "argument --crop-pct: 2 is outside (0, 1]"),
        (("--stats", "none"), "image statistics 'none' are unknown"),
        (("--img-size", "30"), "--img-size 30: patches of 8 pixels do not divide it"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(folder, error_of, words, message):
    assert message in error_of("extract", *WORDS, *words)
    assert not Path("work_dirs").exists()


def test_a_split_that_is_missing_is_named(folder, error_of):
    (folder / "imagenet/val").rename(folder / "imagenet/test")
    assert "no folder val or valid or validation" in error_of("extract", *WORDS)


def test_a_pipe_among_the_images_is_refused_as_by_other_tools(folder, error_of):
    os.mkfifo(next(Path("imagenet/train").iterdir()) / "pipe.png")
    assert "photos in 'imagenet/train' are of a type that is not read, or not files" in error_of(
        "extract", *WORDS
    )
