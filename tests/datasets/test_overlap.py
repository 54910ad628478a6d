"""Photos that are in training and in validation are found, under the same name or another."""

import os
import shutil
from pathlib import Path

import pytest

from milan_mm.datasets import overlap
from milan_mm.datasets.overlap import find_overlap
from tests.run.own_data.folders import write_image


@pytest.fixture
def splits(tmp_path: Path) -> tuple[Path, Path]:
    """Six photos and three others."""
    for split, seeds in (("train", range(6)), ("val", range(6, 9))):
        for seed in seeds:
            write_image(tmp_path / split / "a" / f"{seed}.png", seed)
    return tmp_path / "train", tmp_path / "val"


@pytest.mark.parametrize("listed", [100, 2])
def test_splits_of_different_photos_share_none(splits, monkeypatch, listed: int):
    monkeypatch.setattr(overlap, "LISTED", listed)
    assert find_overlap(*splits) == (0, 3, None)


@pytest.mark.parametrize("listed", [100, 2])
def test_a_photo_of_the_same_name_is_found_however_many_there_are(splits, monkeypatch, listed: int):
    monkeypatch.setattr(overlap, "LISTED", listed)
    train, val = splits
    shutil.copy(train / "a/2.png", val / "a/2.png")
    found = find_overlap(train, val)
    assert found == (1, 4, (val / "a/2.png", train / "a/2.png"))
    assert "1 of 4 validation images are training images too, e.g. " in str(found)


def test_a_photo_of_another_name_in_another_folder_is_found(splits):
    train, val = splits
    (val / "b").mkdir()
    shutil.copy(train / "a/2.png", val / "b/copy.png")
    assert find_overlap(train, val) == (1, 4, (val / "b/copy.png", train / "a/2.png"))


def test_other_photos_of_the_same_name_are_other_photos(splits):
    train, val = splits
    write_image(val / "a/2.png", seed=77)
    assert find_overlap(train, val).found == 0


@pytest.mark.parametrize("listed", [100, 2])
def test_a_folder_that_serves_as_both_shares_all(splits, monkeypatch, listed: int):
    monkeypatch.setattr(overlap, "LISTED", listed)
    assert find_overlap(splits[0], splits[0])[:2] == (6, 6)


def test_pipes_are_not_waited_for(splits):
    for folder in splits:
        os.mkfifo(folder / "a/pipe.png")
    assert find_overlap(*splits).found == 0
