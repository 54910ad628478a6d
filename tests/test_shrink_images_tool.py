"""tools/shrink_images.py as a user meets it: exit codes, the report, one line for a mistake."""

import runpy
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
def shrink(repo_root: Path) -> Callable[..., None]:
    """Calls the tool."""
    main = runpy.run_path(str(repo_root / "tools/shrink_images.py"))["main"]
    return lambda *arguments: main([*arguments, "--workers", "0"])


def test_the_report_tells_how_many_bytes_are_left(images, shrink, capsys):
    shrink("images", "small")
    assert Image.open("small/0.jpg").size == (461, 384)
    out = capsys.readouterr().out
    assert out.startswith("small: 1 files are smaller, 0 unchanged, 0 were there before; ")


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
    images, repo_root, capsys, arguments: tuple[str, ...], message: str
):
    main = runpy.run_path(str(repo_root / "tools/shrink_images.py"))["main"]
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not Path("small").exists()
