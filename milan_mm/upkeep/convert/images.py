"""Finding the image that an annotation means, inside the folder of the source, and its size.

Exports name files by the paths of the machine that wrote them: `images\\1/a.jpg`,
`..\\label-studio\\media\\a.jpg`, `/data/a.jpg`. Only files that were listed below the source can be
found, so a name cannot lead out of it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from operator import eq
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from milan_mm.datasets.coco.faults import is_finite
from milan_mm.datasets.coco.images import wrong_size
from milan_mm.datasets.folders import list_images
from milan_mm.datasets.foreign import split_of
from milan_mm.datasets.image_size import read_header
from milan_mm.text import count
from milan_mm.upkeep.convert.samples import Dropped, Sample

_DRIVE = re.compile(r"^[A-Za-z]:")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the names of files


class Images:
    """The images below some folders.

    Args:
        roots: Each is looked through completely.
        without: Whether an image file is something else, such as a label map.
    """

    def __init__(
        self, roots: Iterable[Path], without: Callable[[Path], bool] | None = None
    ) -> None:
        self.roots = list(dict.fromkeys(roots))
        self.paths: list[Path] = []
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for root in self.roots:
            for name in list_images(root):
                path = root / name
                if without is None or not without(path):
                    self.paths.append(path)
                    self._by_name[path.name].append(path)
                    self._by_stem[path.stem].append(path)

    @cached_property
    def folders(self) -> set[Path]:
        """Those that hold an image."""
        return {path.parent for path in self.paths}

    def find(self, name: str, near: Sequence[Path] = (), split: str | None = None) -> Path | None:
        """The image that a file name of an annotation means.

        Args:
            near: Folders to which the name may be relative, the likeliest first.
            split: Leave out images below a folder of another split.

        Returns:
            The one whose path shares the longest end with the name; None where there is none, or
            where several fit equally well.
        """
        for parts in filter(None, map(_parts, _spellings(name))):
            found = self._by_name.get(parts[-1], [])
            for folder in near:
                if (path := folder.joinpath(*parts)) in found:
                    return path
            if likeliest := _likeliest([p for p in found if self._may_be(p, split)], parts):
                return likeliest
        return None

    def sample(
        self,
        name: str,
        stated: tuple[float, float],
        dropped: Dropped,
        taken: set[Path],
        near: Sequence[Path] = (),
        split: str | None = None,
    ) -> Sample | None:
        """The image that an annotation names; None, and counted, where it cannot be used.

        Args:
            stated: Width and height of the annotation, see `size_as_stated`.
            taken: Images that have a sample already; this one joins them. near, split: See `find`.
        """
        path = self.find(name, near, split)
        if path is None:
            dropped.image("that are missing, or of a name that several have", name)
        elif path in taken:
            dropped.image("that are listed twice", name)
        elif size := size_as_stated(path, stated, dropped):
            taken.add(path)
            return Sample(path, self.name_of(path, near), *size)
        return None

    def left_out(self, splits: Mapping[str, Sequence[Sample]], why: str) -> list[str]:
        """A line on images of which no split has a sample; none where all have one."""
        used = {sample.path for samples in splits.values() for sample in samples}
        number = len(self.paths) - len(used)
        return [f"left out: {count(number, 'image')} {why}"] if number > 0 else []

    def with_stem(self, stem: str, folders: Sequence[Path] = ()) -> list[Path]:
        """Images of this name with any suffix, those in the given folders if there are some."""
        found = self._by_stem.get(stem, [])
        near = [path for path in found if path.parent in folders]
        return near or found

    def name_of(self, path: Path, roots: Sequence[Path] = ()) -> str:
        """A name for the new folder: relative to the innermost of some folders."""
        inside = [
            root for root in (*roots, *self.roots) if path.is_relative_to(root) and path != root
        ]
        innermost = max(inside, key=lambda root: len(root.parts), default=path.parent)
        return path.relative_to(innermost).as_posix()

    def _may_be(self, path: Path, split: str | None) -> bool:
        root = next(root for root in self.roots if path.is_relative_to(root))
        own = [split_of(part) for part in path.relative_to(root).parts[:-1]]
        return split is None or not any(own) or split in own


def shown_size(path: Path, dropped: Dropped) -> tuple[int, int] | None:
    """Width and height as shown, after the turn of EXIF; None, and counted, where unreadable."""
    header = read_header(path)
    if header is None:
        dropped.image("that cannot be read", path)
        return None
    return header.width, header.height


def size_as_stated(
    path: Path, stated: tuple[float, float], dropped: Dropped
) -> tuple[int, int] | None:
    """Width and height of an image as training reads it; None, and counted, where they differ.

    Boxes of another size may belong to pixels that are turned.

    Args:
        stated: Those of the annotation; 0 or NaN where it does not say them.
    """
    size = shown_size(path, dropped)
    unknown = not all(is_finite(side) and side > 0 for side in stated)
    if size is None or unknown or size == stated:
        return size
    # the sentence knows of the turn of EXIF, and ends with the remedy
    detail = wrong_size(path, dict(width=round(stated[0]), height=round(stated[1])))
    dropped.image("of another size than annotated", f"'{path}' {detail}")
    return None


def _spellings(name: str) -> Iterable[str]:
    """What a name may mean: also in addresses, as `.../?d=a.jpg` and `.../a.jpg?key=...`."""
    plain, _, query = unquote(name).partition("?")
    ends = (name, unquote(name), plain, query.removeprefix("d="))
    files = [end.replace("\\", "/").rpartition("/")[2] for end in ends]
    return dict.fromkeys((*ends, *(file[9:] for file in files if _UPLOADED.match(file))))


def _parts(name: str) -> list[str]:
    """The steps of a path of any system, without those that lead up."""
    text = _DRIVE.sub("", name.replace("\\", "/"))
    return [part for part in PurePosixPath(text).parts if part not in ("/", "..", ".")]


def _likeliest(found: Sequence[Path], parts: Sequence[str]) -> Path | None:
    if len(found) < 2:
        return found[0] if found else None
    ends = {
        path: len([*takewhile(bool, map(eq, reversed(path.parts), reversed(parts)))])
        for path in found
    }
    longest = max(ends.values())
    best = [path for path, length in ends.items() if length == longest]
    return best[0] if len(best) == 1 else None
