"""Which image files are there."""

import os
from pathlib import Path

from mmengine.fileio import list_dir_or_file

from milan_mm.datasets.folders import list_images, list_photos, missing_files, spread_files


def test_images_are_listed_at_any_depth_without_hidden_and_other_files(tmp_path: Path):
    for name in ("b.png", "a/c.JPEG", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["a/c.JPEG", "b.png"]


def test_missing_files_are_those_without_a_file(tmp_path: Path, monkeypatch):
    (tmp_path / "a").mkdir()
    for name in ("a/1.png", "2.png"):
        (tmp_path / name).touch()
    names = ["a/1.png", "2.png", "a/2.png", "gone/1.png", str(tmp_path / "2.png")]
    assert missing_files(names, tmp_path) == ["a/2.png", "gone/1.png"]
    monkeypatch.chdir(tmp_path)
    assert missing_files(["2.png", "3.png"]) == ["3.png"]


def test_a_link_that_leads_nowhere_is_no_image(tmp_path: Path):
    (tmp_path / "0.png").touch()
    (tmp_path / "1.png").symlink_to("nowhere.png")
    assert spread_files(tmp_path, 5) == [tmp_path / "0.png"]
    assert list_images(tmp_path) == ["0.png"]


def test_what_has_the_name_of_an_image_and_is_not_a_file_is_said(tmp_path: Path):
    for name in ("a/0.png", "a/.hidden/1.png", "a/.2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "a/3.png")
    (tmp_path / "a/4.png").symlink_to("nowhere.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    images, unread = list_photos(tmp_path)
    assert images == sorted(list_dir_or_file(str(tmp_path), list_dir=False, recursive=True))
    assert unread == ["a/3.png", "a/4.png", "b/3.png", "b/4.png"]
