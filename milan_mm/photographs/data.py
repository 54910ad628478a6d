"""Photographs of two disjoint sets of classes: one for the teacher, the other for the student.

    ROOT/{teacher,student}/{train,val}/CLASS/*     images
    ROOT/classes.tsv                               columns folder, name, role

`name` is what captions call the class; synonyms are separated by commas, the commonest first.
`role` is teacher or student. Any data of this layout will do.
"""

import csv
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from milan_mm.datasets.folders import is_image, subfolders, walk
from milan_mm.errors import MissingFileError, UserError
from milan_mm.files import replacing_folder
from milan_mm.text import shorten_list, shown

ARCHIVE = Path("data/tiny-imagenet.tar.gz")
FOLDER = Path("work_dirs/photographs")  # of what is unpacked
CLASS_LIST = "classes.tsv"
ROLES, SPLITS = ("teacher", "student"), ("train", "val")
COLUMNS = ("folder", "name", "role")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_LAYOUT = "{teacher,student}/{train,val}/CLASS/* and classes.tsv"


@dataclass(frozen=True)
class Classes:
    """What `classes.tsv` says.

    Attributes:
        teacher, student: Names by folder, in the order of the file.
    """

    teacher: dict[str, str]
    student: dict[str, str]

    def of(self, role: str) -> dict[str, str]:
        """Names by folder of a role, 'teacher' or 'student'."""
        return {"teacher": self.teacher, "student": self.student}[role]


def synonyms(name: str) -> list[str]:
    """The words for a class, the commonest first: 'bucket, pail' has two."""
    return [word for part in name.split(",") if (word := " ".join(part.split()))]


def find_photographs(data: str | Path) -> Path:
    """The folder of photographs that a user means.

    Args:
        data: That folder, or an archive of it, which is unpacked below `FOLDER`.

    Raises:
        MissingFileError, UserError: When there are none.
    """
    data = Path(data)
    if data.is_dir():
        return data
    if data.name.endswith(_ARCHIVES):
        return unpack(data, FOLDER)
    if data.exists():
        raise UserError(
            f"photographs '{data}' are a file: give a folder with {_LAYOUT}, or an archive of it "
            f"({', '.join(_ARCHIVES)})"
        )
    raise MissingFileError(
        f"photographs '{data}' do not exist: give a folder with {_LAYOUT}, or an archive of it; "
        f"'{ARCHIVE}' is unpacked into {FOLDER}"
    )


def unpack(archive: str | Path, folder: str | Path) -> Path:
    """Unpack an archive of photographs, whole or not at all; what is there already is kept.

    Args:
        archive: A tar file, whose single top folder or whose content has the layout above.
        folder: Where the result goes, under the name of the archive.

    Returns:
        FOLDER/NAME of NAME.tar.gz.

    Raises:
        MissingFileError: When there is neither the result nor the archive.
        UserError: When the archive is damaged, or writes outside of its folder.
        OSError: The disk is full or not writable.
    """
    archive = Path(archive)
    ending = next((ending for ending in _ARCHIVES if archive.name.endswith(ending)), "")
    root = Path(folder) / archive.name.removesuffix(ending)
    if root.is_dir():
        return root
    if not archive.is_file():
        raise MissingFileError(
            f"archive '{archive}' does not exist: put it there, or unpack it elsewhere by `tar -xzf"
            f" {archive.name}` and give that folder (with {_LAYOUT})"
        )
    with replacing_folder(root) as new:
        try:
            _extract(archive, new)
        except tarfile.FilterError as error:
            raise UserError(
                f"archive '{archive}' is not safe to unpack: {error}; use another copy"
            ) from None
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise _damaged(archive, error) from None
        except OSError as error:
            if error.errno is None:  # gzip's own
                raise _damaged(archive, error) from None
            raise
        inner = list(new.iterdir())
        if len(inner) == 1 and inner[0].is_dir():  # the usual single folder at the top
            only = inner[0].rename(new.with_name("only"))
            new.rmdir()
            only.rename(new)
    return root


def _extract(archive: Path, folder: Path) -> None:
    with (
        tarfile.open(archive) as members,
        tqdm(desc=f"unpacking {archive.name}", unit=" files", mininterval=0.5) as bar,
    ):
        for member in members:
            members.extract(member, folder, filter="data")
            bar.update()


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(f"archive '{archive}' cannot be unpacked ({error}): get a whole copy of it")


def read_classes(root: str | Path) -> Classes:
    """Read the list of classes, and check the folders of images against it.

    Raises:
        MissingFileError: When the list or a folder is missing.
        UserError: When a class has no name or no images, when a folder of images is not in the
            list, or when classes of teacher and student overlap.
    """
    root = Path(root)
    path = root / CLASS_LIST
    if not path.is_file():
        raise MissingFileError(
            f"'{root}' has no {CLASS_LIST}: list the classes there, one a line, in the columns "
            f"{', '.join(COLUMNS)}, separated by tabs"
        )
    classes = _read_list(path)
    for role in ROLES:
        _check_names(path, role, classes.of(role))
    _check_disjoint(path, classes)
    for role in ROLES:
        for split in SPLITS:
            _check_folders(root / role / split, classes.of(role))
    return classes


def _read_list(path: Path) -> Classes:
    classes = Classes({}, {})
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := [name for name in COLUMNS if name not in (lines.fieldnames or ())]:
                raise UserError(
                    f"'{path}' has no column '{missing[0]}': its first line must be "
                    f"{', '.join(COLUMNS)}, separated by tabs"
                )
            for line in lines:
                where = f"'{path}' line {lines.line_num}"
                folder, name, role = ((line[column] or "").strip() for column in COLUMNS)
                if role not in ROLES:
                    raise UserError(f"{where}: role {shown(role)} is not {' or '.join(ROLES)}")
                if not folder or os.path.basename(folder) != folder or folder in (".", ".."):
                    raise UserError(
                        f"{where}: {shown(folder)} is not the name of a folder: give the one that "
                        "has the images of the class"
                    )
                known = classes.of(role)
                if folder in known:
                    raise UserError(f"{where}: class '{folder}' is there twice: remove one line")
                if not synonyms(name):
                    raise UserError(
                        f"{where}: class '{folder}' has no name, which captions need: write it in "
                        "the column name"
                    )
                known[folder] = name
    except UnicodeDecodeError:
        raise UserError(f"'{path}' is not text in UTF-8: save it as that") from None
    return classes


def _check_names(path: Path, role: str, classes: dict[str, str]) -> None:
    """Two classes at least, and the first word for each is its own."""
    if len(classes) < 2:
        raise UserError(f"'{path}' has {len(classes)} classes of the {role}: at least 2 are needed")
    first: dict[str, str] = {}
    for folder, name in classes.items():
        word = synonyms(name)[0].casefold()
        if word in first:
            raise UserError(
                f"'{path}': classes '{first[word]}' and '{folder}' of the {role} are both called "
                f"'{synonyms(name)[0]}', so captions cannot tell them apart: rename one"
            )
        first[word] = folder


def _check_disjoint(path: Path, classes: Classes) -> None:
    """The teacher must not know what the student is judged on, under whatever word."""
    if both := [folder for folder in classes.teacher if folder in classes.student]:
        raise UserError(
            f"'{path}': {shorten_list(both)} are classes of both teacher and student: the teacher "
            "must not have seen the student's, leave each in one role"
        )
    words = [
        {word.casefold(): folder for folder, name in part.items() for word in synonyms(name)}
        for part in (classes.teacher, classes.student)
    ]
    if shared := sorted(words[0].keys() & words[1].keys()):
        word = shared[0]
        raise UserError(
            f"'{path}': class '{words[0][word]}' of the teacher and '{words[1][word]}' of the "
            f"student are both called '{word}': the teacher must not know the student's classes, "
            "remove one, or rename it if it is something else"
        )


def _check_folders(parent: Path, classes: dict[str, str]) -> None:
    """Each class has a folder with images there, and each folder is a class."""
    there = subfolders(parent) if parent.is_dir() else []
    for folder in classes:
        if folder not in there:
            raise MissingFileError(
                f"class '{folder}' of {CLASS_LIST} has no folder in '{parent}': put its images "
                "there, or remove its line"
            )
        if not any(is_image(name) and is_file for name, is_file in walk(str(parent / folder))):
            raise UserError(
                f"class '{folder}' has no images in '{parent / folder}': put some there, or remove "
                f"its line from {CLASS_LIST} and its folders"
            )
    if unknown := [folder for folder in there if folder not in classes]:
        raise UserError(
            f"'{parent}' has folders that {CLASS_LIST} does not list for it: "
            f"{shorten_list(unknown)}: add them there, or remove them"
        )
