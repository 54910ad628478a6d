"""Every picture that is named is found once, and no two results have one name."""

from pathlib import Path

import pytest

from milan_mm.errors import MissingFileError, UserError
from milan_mm.inference.pictures import find_pictures, name_pictures


def touch(root: Path, *names: str) -> list[str]:
    """Empty files, and their paths."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [str(root / name) for name in names]


def test_folders_are_searched_at_any_depth_and_patterns_are_expanded(tmp_path: Path):
    touch(tmp_path, "a/1.jpg", "a/b/2.PNG", "a/notes.txt", "a/.hidden.png", "c/3.jpg", "c/4.webp")
    pictures, unread = find_pictures([f"{tmp_path}/a", f"{tmp_path}/c/*.jpg"])
    assert [picture.name for picture in pictures] == ["a/1.jpg", "a/b/2.PNG", "c/3.jpg"]
    assert not unread
    pictures, _ = find_pictures([f"{tmp_path}/**/*.jpg"])
    assert [picture.name for picture in pictures] == ["a/1.jpg", "c/3.jpg"]


def test_a_picture_that_is_named_twice_is_predicted_once(tmp_path: Path, monkeypatch):
    (path,) = touch(tmp_path, "a/1.jpg")
    monkeypatch.chdir(tmp_path)
    pictures, _ = find_pictures([path, "a", "a/*.jpg", "./a/1.jpg"])
    assert len(pictures) == 1


def test_same_names_in_different_folders_or_of_different_types_stay_apart(tmp_path: Path):
    paths = touch(tmp_path, "a/x.jpg", "b/x.jpg", "b/x.png", "b/y.png")
    stems = [picture.stem for picture in name_pictures(paths)]
    assert stems == ["a/x", "b/x.jpg", "b/x.png", "b/y"]
    paths = touch(tmp_path, "c/x.jpg", "c/x.png", "c/x.png.jpg")
    assert len({picture.stem for picture in name_pictures(paths)}) == 3


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("000000000139.jpg", "000000000285.jpg"), [139, 285]),
        (("a/1.jpg", "b/1.jpg"), [1, 2]),
        (("7.jpg", "cat.jpg"), [1, 2]),
    ],
)
def test_numbers_in_names_are_ids_where_all_have_one_of_their_own(
    tmp_path: Path, names: tuple[str, ...], ids: list[int]
):
    assert [picture.image_id for picture in name_pictures(touch(tmp_path, *names))] == ids


def test_results_of_an_earlier_run_are_no_pictures(tmp_path: Path):
    touch(tmp_path, "1.jpg", "out/pictures/1.jpg", "out/2.jpg", "output.jpg")
    pictures, _ = find_pictures([str(tmp_path)], tmp_path / "out")
    assert [picture.name for picture in pictures] == ["1.jpg", "out/2.jpg", "output.jpg"]


def test_no_picture_is_written_over(tmp_path: Path):
    touch(tmp_path, "pictures/1.jpg", "1.jpg")
    with pytest.raises(UserError, match="all pictures are where results go, in --out"):
        find_pictures([f"{tmp_path}/pictures/*.jpg"], tmp_path)
    assert len(find_pictures([f"{tmp_path}/1.jpg"], tmp_path)[0]) == 1


def test_photos_of_types_that_nothing_reads_are_named(tmp_path: Path):
    touch(tmp_path, "1.jpg", "2.heic")
    _, unread = find_pictures([str(tmp_path)])
    assert unread == [str(tmp_path / "2.heic")]


def test_what_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"gone.jpg' does not exist: give files, folders"):
        find_pictures([str(tmp_path / "gone.jpg")])
    with pytest.raises(MissingFileError, match=r"no picture matches '.*\*\.jpg'"):
        find_pictures([f"{tmp_path}/*.jpg"])
    with pytest.raises(UserError, match="no pictures in"):
        find_pictures([str(tmp_path)])
