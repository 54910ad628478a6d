"""The photographs are unpacked whole, and classes of teacher and student are kept apart."""

import io
import tarfile
from pathlib import Path

import pytest

from milan_mm.errors import MissingFileError, UserError
from milan_mm.photographs.data import Classes, find_photographs, read_classes, synonyms, unpack
from tests.photographs.folders import LINES, write


def pack(folder: Path, archive: Path, name: str = "photos") -> Path:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, name)
    return archive


def test_an_archive_is_unpacked_once_with_or_without_a_folder_at_its_top(tmp_path):
    made = write(tmp_path / "made")
    for name in ("photos", "."):
        archive = pack(made, tmp_path / "mine.tar.gz", name)
        root = unpack(archive, tmp_path / f"in-{name}")
        assert root == tmp_path / f"in-{name}/mine"
        assert [path.name for path in root.parent.iterdir()] == ["mine"]  # nothing else is left
        assert read_classes(root) == Classes(
            dict(t0="bucket, pail", t1="nail"), dict(s0="goldfish", s1="fly")
        )
    (root / "mark").touch()
    archive.unlink()
    assert unpack(archive, root.parent) == root
    assert (root / "mark").exists()
    assert find_photographs(made) == made
    assert synonyms("bucket,  iron  pail,") == ["bucket", "iron pail"]


def test_an_archive_that_cannot_be_unpacked_leaves_nothing(tmp_path):
    good = pack(write(tmp_path / "made"), tmp_path / "good.tar.gz")
    (tmp_path / "cut.tar.gz").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "other.tar.gz").write_bytes(b"something else")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    for name, reason in (
        ("cut", "get a whole copy"),
        ("other", "get a whole copy"),
        ("evil", "not safe to unpack"),
        ("missing", "does not exist: put it there"),
    ):
        with pytest.raises(UserError, match=reason):
            unpack(tmp_path / f"{name}.tar.gz", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((LINES[0], LINES[1], LINES[2], "s1\t \tstudent"), "line 5: class 's1' has no name"),
        ((*LINES, "t0\tpail\tstudent"), "'t0' are classes of both"),
        ((*LINES[:3], "s1\tfly, pail\tstudent"), "both called 'pail'"),
        ((LINES[0], "t1\tBucket\tteacher", *LINES[2:]), "'t0' and 't1' of the teacher are both"),
        ((*LINES, "s2\tlion\tstudent"), "class 's2' .* has no folder in .*student/train"),
        ((*LINES, "s2\tlion\tpupil"), "role 'pupil' is not teacher or student"),
        ((*LINES, "../s2\tlion\tstudent"), "not the name of a folder"),
        ((*LINES, LINES[0]), "class 't0' is there twice"),
        (LINES[:3], "1 classes of the student: at least 2"),
        (("t0\tpail\tteacher", "t2\tnail\tteacher", *LINES[2:]), "'t2' .* has no folder"),
    ],
)
def test_a_list_of_classes_that_cannot_work_is_refused(tmp_path, lines, reason):
    with pytest.raises(UserError, match=reason) as caught:
        read_classes(write(tmp_path, lines))
    assert "\n" not in str(caught.value)


def test_folders_that_do_not_agree_with_the_list_are_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "student/train/x").mkdir()
    with pytest.raises(UserError, match=r"does not list for it: 'x'"):
        read_classes(tmp_path)
    (tmp_path / "student/train/x").rmdir()
    for file in (tmp_path / "teacher/val/t1").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"class 't1' has no images in '.*teacher/val/t1'"):
        read_classes(tmp_path)
    (tmp_path / "classes.tsv").write_text("folder,name,role\n")
    with pytest.raises(UserError, match="no column 'folder'"):
        read_classes(tmp_path)
    (tmp_path / "classes.tsv").unlink()
    with pytest.raises(MissingFileError, match=r"has no classes\.tsv"):
        read_classes(tmp_path)
    with pytest.raises(MissingFileError, match=r"photographs .* do not exist"):
        find_photographs(tmp_path / "nowhere")
