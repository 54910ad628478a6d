"""tools/train_photographs_clip.py: mistakes that show before it trains are one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.photographs.folders import LINES, write


@pytest.mark.parametrize(
    ("lines", "options", "reason"),
    [
        (LINES, ["--out", "."], "'.' is a folder: give the name"),
        (LINES, ["--out", "clip.pth"], "'clip.pth' does not end in .safetensors"),
        (LINES, ["--evaluate", "--out", "gone.safetensors"], "'gone.safetensors' does not exist"),
        (LINES, ["--out", "photos/classes.tsv/clip.safetensors"], "classes.tsv"),
        ((*LINES, "s2\tlion\tstudent"), [], "class 's2' of classes.tsv has no folder"),
        (("t0\t" + "x " * 30 + "\tteacher", *LINES[1:]), [], "the limit is 24; shorten"),
    ],
)
def test_a_mistake_is_one_line(
    lines: tuple[str, ...],
    options: list[str],
    reason: str,
    error_of: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    write(tmp_path / "photos", lines)
    monkeypatch.chdir(tmp_path)
    assert reason in error_of("train_photographs_clip", "photos", *options)
