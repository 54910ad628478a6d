"""Smaller copies of an image folder, which load faster than what they were made from.

Most of the time of loading is the decoding of a JPEG's entropy code, which grows with the file. The
copies are JPEG files under the same names, so that every reader of the folder reads them too.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from milan_mm.datasets.crops import resize
from milan_mm.datasets.decoding import decode, reason_of
from milan_mm.datasets.folders import walk
from milan_mm.errors import ExistingFileError, MissingFileError, UserError
from milan_mm.files import read_regular, replacing
from milan_mm.upkeep.parallel import map_in_processes

_JPEG = (".jpg", ".jpeg")
_RECORD = ".shrink_images.json"  # hidden, so that no reader takes it for a sample
_SUBSAMPLING = {
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
_MAX_LISTED = 5


@dataclass(frozen=True)
class ShrinkSettings:
    """What decides the content of the copies.

    Attributes:
        source: The folder that is copied.
        short_side: Pixels of the shorter side; smaller images keep their size.
        quality: JPEG's, 1 to 100.
        subsampling: Of the colours: '420' keeps half their rows and columns, '444' all.
    """

    source: Path
    short_side: int
    quality: int
    subsampling: str = "420"

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise UserError(f"--short-side {self.short_side}: give 1 pixel or more")
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality} is outside 1..100: choose one inside")
        if self.subsampling not in _SUBSAMPLING:
            names = ", ".join(_SUBSAMPLING)
            raise UserError(f"--subsampling {self.subsampling}: choose from {names}")


class Copied(NamedTuple):
    """What became of a file.

    Attributes:
        outcome: The copy is smaller, unchanged, or was there before; or there is none.
        before, after: Bytes of the original and of the copy.
        error: Why there is no copy.
    """

    outcome: Literal["smaller", "unchanged", "there", "failed"]
    before: int
    after: int
    error: str = ""


class Report(NamedTuple):
    """What became of a folder: a few lines, and whether every file has a copy."""

    text: str
    complete: bool


def shrink_folder(target: Path, settings: ShrinkSettings, num_workers: int) -> Report:
    """Copy a folder tree, its JPEG files smaller, others as they are, hidden ones not at all.

    What an earlier call copied is only copied again when the original is newer. Images that cannot
    be read get no copy, and are tried again next time.

    Args:
        target: A new folder, or one that an earlier call with the same settings began.
        num_workers: Processes; 0 works in this one.

    Raises:
        OSError: When a folder cannot be read or written, or the disk is full.
        MissingFileError: When there is no such folder, or no JPEG file in it.
        ExistingFileError: When the target holds something else.
        UserError: When one folder is inside the other, the target was begun with other settings,
            or the folder holds annotations that would not fit the copies.
    """
    names = _list_files(settings.source)
    _check_overlap(settings.source, target, names)
    _begin(target, settings)
    copy = partial(copy_file, target=target, settings=settings)
    outcomes: Counter[str] = Counter()
    before = after = 0
    failed = []
    for name, copied in zip(
        names, map_in_processes(copy, names, num_workers, "shrinking"), strict=True
    ):
        outcomes[copied.outcome] += 1
        before, after = before + copied.before, after + copied.after
        if copied.error:
            failed.append(f"{name}: {copied.error}")
    text = (
        f"{target}: {outcomes['smaller']:,} files are smaller, {outcomes['unchanged']:,} "
        f"unchanged, {outcomes['there']:,} were there before; {before / 1e6:,.1f} MB became "
        f"{after / 1e6:,.1f} ({after / max(before, 1):.0%})"
    )
    return Report("\n".join([text, *_list_failed(failed)]), not failed)


def copy_file(name: str, target: Path, settings: ShrinkSettings) -> Copied:
    """Copy a file of the source, smaller where that is possible.

    Args:
        name: Inside source and target.

    Raises:
        OSError: When the target cannot be written.
    """
    original, copy = settings.source / name, target / name
    try:
        if _is_there(copy, original):
            return Copied("there", original.stat().st_size, copy.stat().st_size)
        content = read_regular(original)
    except (OSError, UserError) as error:
        return Copied("failed", 0, 0, getattr(error, "strerror", None) or str(error))
    result = content
    if is_jpeg(name):
        try:
            img = decode(content)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            return Copied("failed", 0, 0, reason_of(error))
        new_content = encode(resize_short_side(img, settings.short_side), settings)
        result = min(content, new_content or content, key=len)
    try:
        with replacing(copy, durable=False) as new:
            new.write_bytes(result)
    except OSError as error:
        if error.filename is None:  # e.g. a full disk
            raise OSError(error.errno, error.strerror, str(copy)) from error
        raise
    return Copied("unchanged" if result is content else "smaller", len(content), len(result))


def resize_short_side(img: np.ndarray, short_side: int) -> np.ndarray:
    """Make an image smaller, bicubic with antialiasing; a small one stays what it is.

    Args:
        img: (H, W, 3) uint8.
        short_side: Pixels of the result's shorter side.
    """
    height, width = img.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return img
    size = (round(height * scale), round(width * scale))
    return resize(img, (0, 0, height, width), size)


def encode(img: np.ndarray, settings: ShrinkSettings) -> bytes | None:
    """A JPEG file, or None when the image has more than the 65,500 rows or columns of one.

    Args:
        img: (H, W, 3) uint8 BGR.
    """
    parameters = {
        cv2.IMWRITE_JPEG_QUALITY: settings.quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: _SUBSAMPLING[settings.subsampling],
    }
    done, content = cv2.imencode(".jpg", img, [n for pair in parameters.items() for n in pair])
    return content.tobytes() if done else None


def is_jpeg(name: str) -> bool:
    """Whether a name has the ending of a JPEG file."""
    return name.lower().endswith(_JPEG)


def _list_files(source: Path) -> list[str]:
    """Names below the source, sorted; hidden ones are left out."""
    if not source.is_dir():
        what = "is not a folder" if source.exists() else "does not exist"
        raise MissingFileError(f"image folder '{source}' {what}: correct SOURCE")
    found = sorted(walk(str(source)))
    if strange := [name for name, is_file in found if not is_file]:
        raise UserError(
            f"'{source / strange[0]}' is not a file, but a pipe, a device or a link that leads "
            f"nowhere ({len(strange)} in all): remove it from SOURCE"
        )
    names = [name for name, _ in found]
    if not any(map(is_jpeg, names)):
        raise MissingFileError(
            f"'{source}' has no file that ends in {' or '.join(_JPEG)}: only these are shrunk"
        )
    annotations = next((name for name in names if "annotations" in Path(name).parts), None)
    if annotations:
        raise UserError(
            f"'{source}' holds '{annotations}': boxes and label maps do not fit smaller images; "
            "name a folder of images alone"
        )
    return names


def _check_overlap(source: Path, target: Path, names: list[str]) -> None:
    """Refuse copies of copies; folders may be links to others."""
    place = target.resolve()
    folders = {source.resolve(), *(f.resolve() for f in {(source / n).parent for n in names})}
    if source.resolve().is_relative_to(place) or any(map(place.is_relative_to, folders)):
        raise UserError(f"'{target}' and '{source}' overlap: name a folder elsewhere")


def _begin(target: Path, settings: ShrinkSettings) -> None:
    """Note the settings in a new folder, or find the same in one that was begun."""
    record = target / _RECORD
    wanted = asdict(settings) | dict(source=str(settings.source.resolve()))
    if target.exists() and not target.is_dir():
        raise ExistingFileError(f"'{target}' is not a folder: name a new one")
    if not record.exists():
        if target.exists() and any(target.iterdir()):
            raise ExistingFileError(f"'{target}' is not empty: name a new folder")
        with replacing(record) as new:
            new.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        return
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        found = "something else"
    if found != wanted:
        raise UserError(
            f"'{target}' was begun with {found}, not with {wanted}: name a new folder, or ask for "
            "the same"
        )


def _is_there(copy: Path, original: Path) -> bool:
    """Whether a copy was made, and of this content; a power failure may have left it empty."""
    if not copy.exists():
        return False
    stat = copy.stat()
    return stat.st_size > 0 and stat.st_mtime >= original.stat().st_mtime


def _list_failed(failed: list[str]) -> list[str]:
    if not failed:
        return []
    lines = [f"not copied, since they cannot be read: {len(failed):,}", *failed[:_MAX_LISTED]]
    if len(failed) > _MAX_LISTED:
        lines.append(f"and {len(failed) - _MAX_LISTED:,} more")
    return ["\n  ".join(lines), "repair or remove these, then run it again: it continues"]
