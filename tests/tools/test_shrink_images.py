"""tools/shrink_images.py as a user meets it: exit codes, the report, one line for a mistake."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory with a folder of one image, 500 x 600 pixels."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (500, 600, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/0.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


@pytest.fixture
def shrink(call: Callable[..., None]) -> Callable[..., int]:
    """Calls the tool and returns its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            call("shrink_images", *arguments)
        return stop.value.code

    return run


def test_the_report_tells_how_many_bytes_are_left(images, shrink, capsys):
    assert shrink("images", "small") == 0
    assert Image.open("small/0.jpg").size == (461, 384)
    out = capsys.readouterr().out
    assert out.startswith("small: 1 files are smaller, 0 unchanged, 0 were there before; ")


def test_unreadable_images_give_1(images, shrink, capsys):
    (images / "1.jpg").write_bytes(b"no image")
    assert shrink("images", "small", "--workers", "0") == 1
    out = capsys.readouterr().out
    assert "since they cannot be read: 1\n  1.jpg: " in out
    assert out.endswith("repair or remove these, then run it again: it continues\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imges", "small"), "error: image folder 'imges' does not exist: correct SOURCE"),
        (("images", "images"), "error: 'images' and 'images' overlap: name a folder elsewhere"),
        (("images", "small", "--quality", "0"), "error: --quality 0 is outside 1..100: choose"),
        (("images", "small", "--workers", "-1"), "error: --workers -1: give 0 or more"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    images, shrink, capsys, arguments: tuple[str, ...], message: str
):
    assert shrink(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not Path("small").exists()
