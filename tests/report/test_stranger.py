"""The page of a work directory that anybody may have made: one line or a page, and nothing else."""

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.errors import UserError
from milan_mm.report.run_page import run_page
from tests.report.folders import train_row, write_part, write_run, write_test

ODD: list = [None, "x", -1, 1e308, 10**400, 10**18, 0, True, float("nan"), [], {}, [[]], [None]]
ODD += [{"a": {}}, "<script>alert(1)</script>"]
SAMPLE = 80
SECRET = "secret-of-the-reader"


def stranger(folder: Path) -> Path:
    write_run(folder)
    write_test(folder, 13, {"mIoU": 64.0, "IoU[a]": 3.0}, "20261128_120000")
    return folder


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    """Every entry of a JSON value."""
    yield path
    parts = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for name, part in parts:
        yield from places(part, (*path, name))


def replaced(node: object, path: tuple, value: object) -> object:
    if not path:
        return value
    node = copy.deepcopy(node)
    inner = node
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return node


def test_any_value_in_any_file_gives_a_page_or_one_line(tmp_path: Path):
    folder = stranger(tmp_path / "run")
    changes = []
    for file in sorted(folder.rglob("*.json")):
        lines = file.read_text().splitlines() if file.name == "scalars.json" else [file.read_text()]
        for number, line in enumerate(lines):
            changes += [(file, lines, number, place) for place in places(json.loads(line))]
    chosen = random.Random(0).sample([(*c, odd) for c in changes for odd in ODD], SAMPLE)
    for file, lines, number, place, odd in chosen:
        before = file.read_text()
        new = json.dumps(replaced(json.loads(lines[number]), place, odd))
        file.write_text("\n".join([*lines[:number], new, *lines[number + 1 :]]))
        try:
            assert "<script>alert" not in run_page(folder)
        except UserError as error:
            assert str(folder) in str(error)
        file.write_text(before)


def test_files_that_links_place_elsewhere_are_left_out(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(outside / "photo.png")
    write_part(outside, 12, [train_row(1)], command=SECRET)
    (outside / "encoder_weights.json").write_text(json.dumps(dict(source=SECRET)))
    folder = tmp_path / "run"
    part = write_part(folder, 10, [train_row(1)])
    (folder / "photo.png").symlink_to(outside / "photo.png")
    (folder / "20261128_120000").symlink_to(outside / "20261128_120000")
    (folder / "encoder_weights.json").symlink_to(outside / "encoder_weights.json")
    (part / "run.json").unlink()
    (part / "run.json").symlink_to(outside / "20261128_120000/run.json")
    page = run_page(folder)
    assert SECRET not in page and "photo.png" not in page and "12:00:00" not in page
    # a folder of one's own on another disk is what it was
    (tmp_path / "link").symlink_to(stranger(tmp_path / "own"))
    assert "of 100" in run_page(tmp_path / "link")


@pytest.mark.parametrize("name", ["encoder_weights.json", ".lock", "a.png", "epoch_1.pth"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str):
    folder = stranger(tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "of 100" in run_page(folder)
