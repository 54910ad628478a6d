"""Finding the image that an annotation means, inside the folder of the source and nowhere else.

Exports name files by the paths of the machine that wrote them: `images\\1/a.jpg`,
`..\\label-studio\\media\\a.jpg`, `/data/a.jpg`. Only files that were listed below the source can be
found, so a name cannot lead out of it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from milan_mm.datasets.folders import list_images
from milan_mm.datasets.foreign import split_of

_DRIVE = re.compile(r"^[A-Za-z]:")


class Images:
    """The images below some folders.

    Args:
        roots: Each is looked through completely.
        without: Endings of names, without suffix, that mark other files: '_mask'.
    """

    def __init__(self, roots: Iterable[Path], without: str | None = None) -> None:
        self.roots = list(dict.fromkeys(roots))
        self.paths: list[Path] = []
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for root in self.roots:
            for name in list_images(root):
                path = root / name
                if without is None or not path.stem.endswith(without):
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
        for text in dict.fromkeys((name, unquote(name))):
            parts = _parts(text)
            if not parts:
                continue
            found = [p for p in self._by_name.get(parts[-1], ()) if self._may_be(p, split)]
            for folder in near:
                if (path := folder.joinpath(*parts)) in found:
                    return path
            if likeliest := _likeliest(found, parts):
                return likeliest
        return None

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


def _parts(name: str) -> list[str]:
    """The steps of a path of any system, without those that lead up."""
    text = _DRIVE.sub("", name.replace("\\", "/"))
    return [part for part in PurePosixPath(text).parts if part not in ("/", "..", ".")]


def _likeliest(found: Sequence[Path], parts: Sequence[str]) -> Path | None:
    if len(found) < 2:
        return found[0] if found else None
    ends = {path: _common_end(path.parts, parts) for path in found}
    longest = max(ends.values())
    best = [path for path, length in ends.items() if length == longest]
    return best[0] if len(best) == 1 else None


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    length = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        length += 1
    return length
