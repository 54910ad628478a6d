"""Which image files are there."""

from pathlib import Path

from milan_mm.datasets.folders import list_images, missing_files, spread_files


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
