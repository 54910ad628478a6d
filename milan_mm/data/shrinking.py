"""Smaller copies of an image folder, which load faster than what they were made from.

Most of the time of loading is the undoing of a JPEG's entropy coding, and grows with the file. The
copies are JPEG files under the same names, so that every reader of the folder reads them too.
"""

import errno
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
from mmengine import fileio

from milan_mm.data.crops import resize
from milan_mm.data.loading import decode, reason_of
from milan_mm.data.parallel import each
from milan_mm.weights.writing import replacing

_JPEG = (".jpg", ".jpeg")
_RECORD = "shrunk.json"


@dataclass(frozen=True)
class Settings:
    """What decides the content of the copies.

    Attributes:
        source: The folder that is copied.
        short_side: Pixels of the shorter side; smaller images keep their size.
        quality: JPEG's, 1 to 100.
    """

    source: str
    short_side: int
    quality: int

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise ValueError(f"--short-side {self.short_side}: give 1 pixel or more")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality {self.quality} is outside 1..100: choose one inside")


class Copy(NamedTuple):
    """Of one file: its bytes before and after, what was done, and why it could not be read."""

    before: int
    after: int
    done: str  # 'shrunk', 'unchanged' or 'there'
    error: str = ""


def shrink_folder(target: str | Path, settings: Settings, num_workers: int) -> str:
    """Copy a folder tree, its JPEG files smaller, all other files as they are.

    What an interrupted call has copied is not copied again.

    Args:
        target: A new folder, or one that an earlier call with the same settings began.
        num_workers: Processes; 0 works in this one.

    Returns:
        A report in a few lines.

    Raises:
        FileNotFoundError: When there is no such folder, or no JPEG file in it.
        FileExistsError: When the target holds something else.
        ValueError: When one folder is inside the other, or the target was begun with other settings.
    """
    source, target = Path(settings.source), Path(target)
    if not source.is_dir():
        raise FileNotFoundError(f"image folder '{source}' does not exist: correct SOURCE")
    places = source.resolve(), target.resolve()
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise ValueError(f"'{target}' and '{source}' overlap: name a folder elsewhere")
    names = sorted(fileio.list_dir_or_file(source, list_dir=False, recursive=True))
    if not any(map(is_jpeg, names)):
        raise FileNotFoundError(
            f"'{source}' has no file that ends in {' or '.join(_JPEG)}: only these are shrunk"
        )
    _begin(target, settings)
    copy = partial(copy_file, source=source, target=target, settings=settings)
    return _report(names, each(copy, names, num_workers, "shrinking"), target)


def copy_file(name: str, source: Path, target: Path, settings: Settings) -> Copy:
    """Copy a file of a folder, smaller where that can be; an unreadable image stays as it is.

    Raises:
        ValueError: When the disk is full.
    """
    original, copy = source / name, target / name
    if copy.exists():
        return Copy(original.stat().st_size, copy.stat().st_size, "there")
    content = result = original.read_bytes()
    error = ""
    if is_jpeg(name):
        try:
            result = shrink(content, settings.short_side, settings.quality)
        except Exception as reason:  # decoders raise whatever a damaged file leads them to
            error = reason_of(reason)
    try:
        with replacing(copy) as partial_copy:
            partial_copy.write_bytes(result)
    except OSError as reason:
        if reason.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"no space left for '{copy}': make room and run it again, it goes on"
        ) from reason
    return Copy(len(content), len(result), "unchanged" if result is content else "shrunk", error)


def shrink(content: bytes, short_side: int, quality: int) -> bytes:
    """An image file as a smaller JPEG file: upright, in colour, without metadata.

    Args:
        content: Of the file.
        short_side: Pixels of the result's shorter side; a smaller image keeps its size.
        quality: JPEG's, 1 to 100.

    Returns:
        The given content itself where the new one would be no smaller.

    Raises:
        Exception: Of any kind, as damaged files lead decoders to; see `reason_of`.
    """
    img = decode(content)
    height, width = img.shape[:2]
    scale = short_side / min(height, width)
    if scale < 1:
        size = (max(short_side, round(side * scale)) for side in (height, width))
        img = resize(img, (0, 0, height, width), tuple(size))
    new = cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return min(content, new, key=len)


def is_jpeg(name: str) -> bool:
    """Whether a name has the ending of a JPEG file."""
    return name.lower().endswith(_JPEG)


def _begin(target: Path, settings: Settings) -> None:
    """Note the settings in a new folder, or find the same in one that was begun."""
    record = target / _RECORD
    wanted = asdict(settings) | dict(source=str(Path(settings.source).resolve()))
    if not record.exists():
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(f"'{target}' is not empty: name a new folder")
        with replacing(record) as partial_record:
            partial_record.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        return
    found = json.loads(record.read_text(encoding="utf-8"))
    if found != wanted:
        raise ValueError(
            f"'{target}' was begun with {found}, not with {wanted}: name a new folder, or ask for "
            "the same"
        )


def _report(names: Sequence[str], copies: Iterable[Copy], target: Path) -> str:
    """Count what was done, in a few lines; runs the work, since the copies come one by one."""
    counts = dict.fromkeys(("shrunk", "unchanged", "there"), 0)
    before = after = 0
    unreadable = []
    for name, copy in zip(names, copies, strict=True):
        counts[copy.done] += 1
        before, after = before + copy.before, after + copy.after
        if copy.error:
            unreadable.append(f"{name}: {copy.error}")
    lines = [
        f"{target}: {counts['shrunk']:,} files are smaller, {counts['unchanged']:,} unchanged, "
        f"{counts['there']:,} were there before; {before / 1e6:,.1f} MB became {after / 1e6:,.1f} "
        f"({after / max(before, 1):.0%})"
    ]
    if unreadable:
        lines.append(
            f"{len(unreadable):,} images cannot be read and were copied as they are (training "
            "skips such images):"
        )
        lines += [f"  {line}" for line in unreadable[:5]]
        if len(unreadable) > 5:
            lines.append(f"  and {len(unreadable) - 5:,} more")
    return "\n".join(lines)
