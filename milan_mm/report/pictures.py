"""Pictures that lie in a work directory, small enough for a page."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from milan_mm.report.page import join, paragraph, picture
from milan_mm.report.stranger import is_inside
from milan_mm.text import count

_SUFFIXES = (".png", ".jpg", ".jpeg")
_PER_GROUP, _MOST = 6, 30
_SIDE = 900  # pixels, of a thumbnail
_MAX_PIXELS = 50_000_000  # of a picture: a page needs a thumbnail of it
_DEPTH = 5


@dataclass(frozen=True)
class Group:
    """Pictures of one folder and one kind, e.g. of several steps.

    Attributes:
        title: Of the folder, relative to the work directory.
        files: In the order of their numbers.
    """

    title: str
    files: list[Path]


def find_pictures(folder: Path) -> list[Group]:
    """Those in a folder and the folders below, grouped by folder and by name without its number."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in _files(folder):
        place = path.parent.relative_to(folder).as_posix()
        kind = re.sub(r"[\d_\-]+$", "", path.stem)
        groups.setdefault((place, kind if re.search(r"\d", path.stem) else ""), []).append(path)
    return [
        Group("" if place == "." else place, sorted(files, key=_natural))
        for (place, _), files in sorted(groups.items())
    ]


def pictures_body(folder: Path) -> Markup:
    """All of them, or some of each group, evenly spread; nothing without any."""
    parts = []
    room = _MOST
    for group in find_pictures(folder):
        chosen = _spread(group.files, min(_PER_GROUP, room))
        figures = [shown for path in chosen if (shown := _thumbnail(path, folder))]
        room -= len(figures)
        if not figures:
            continue
        some = f"{len(figures)} of " if len(group.files) > len(chosen) else ""
        where = f" in {group.title}" if group.title else ""
        text = f"{some}{count(len(group.files), 'picture')}{where}:"
        parts.append(paragraph(text, note=True))
        parts.append(join(['<div class="pictures">', *figures, "</div>"]))
    return join(parts)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        is_picture = path.suffix.lower() in _SUFFIXES and path.is_file()
        if is_picture and len(parts) <= _DEPTH and not hidden and is_inside(path, folder):
            yield path


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in names by their size: step 90 before step 100."""
    words = re.split(r"(\d+)", path.name)
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]


def _spread(files: list[Path], number: int) -> list[Path]:
    """So many of them, the first and the last included."""
    if len(files) <= number or number < 1:
        return files[: max(number, 0)]
    if number == 1:
        return files[-1:]
    step = (len(files) - 1) / (number - 1)
    return [files[round(i * step)] for i in range(number)]


def _thumbnail(path: Path, folder: Path) -> Markup | None:
    """A figure; None for files that are no pictures after all."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _MAX_PIXELS:
                return None
            image.load()
            few_colours = image.mode in ("1", "L", "P") or image.getcolors(256) is not None
            small = max(image.size) < 200
            image.thumbnail((_SIDE, _SIDE))
            buffer = io.BytesIO()
            if few_colours or small or image.mode == "RGBA":
                image.save(buffer, "PNG", optimize=True)
            else:
                image.convert("RGB").save(buffer, "JPEG", quality=85)
    except Exception:  # decoders raise whatever a damaged file leads them to
        return None
    name = path.relative_to(folder).as_posix()
    return picture(buffer.getvalue(), name, path.name, pixels=small)
