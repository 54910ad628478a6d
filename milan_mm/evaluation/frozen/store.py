"""Features on the disk: a folder for each split, written part by part and read by mapping.

A folder holds

  manifest.json           what the features depend on (`FeatureSpec`), and a checksum of each part
  images.json             names, labels and classes of the images
  POOLING.safetensors     one tensor 'features' (N, blocks, D) for each pooling

The tensor files have their full size from the start, so that a full disk shows before the first
image is read. A part is a run of images; its checksum is written down once its rows are on the
disk. What was interrupted or damaged is computed again part by part, and the rest is kept.
"""

import errno
import fcntl
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, tensor

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.spec import DTYPES, FeatureSpec
from milan_mm.files import free_bytes
from milan_mm.run.records.json_file import read_json, write_json
from milan_mm.text import bytes_of

VERSION = 1
MANIFEST, IMAGES = "manifest.json", "images.json"
_LOCK = ".lock"
_TENSOR = "features"
_PART_BYTES, _PART_IMAGES = 32 * 2**20, 4096  # of one pooling, at most, in a part
_READ_BYTES = 4 * 2**20
_SECONDS_BETWEEN_TRIES = 0.5
_ALIGNMENT = 64
_NAMES = dict(float32="F32", float16="F16")  # of safetensors


@dataclass(frozen=True)
class Images:
    """The labelled images of a split, in the order of the features.

    Attributes:
        names: Relative to the folder of the split. labels: In [0, len(classes)).
        classes: Their names.
    """

    names: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]


@dataclass
class Store:
    """The features of one split, complete or not.

    Attributes:
        folder: See above. spec: What they depend on.
        parts: For each part a checksum by pooling; None for one that is not there.
    """

    folder: Path
    spec: FeatureSpec
    parts: list[dict[str, int] | None] = field(default_factory=list)

    @classmethod
    def open(cls, folder: str | Path) -> "Store":
        """Read a manifest; the features are not looked at.

        Raises:
            MissingFileError, UserError: When there is none of this version, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise MissingFileError(
                f"'{folder}' is not a folder of features, since it has no {MANIFEST}: "
                "tools/extract.py makes one for each split"
            )
        content = read_json(folder / MANIFEST, VERSION)
        try:
            assert content is not None
            store = cls(folder, FeatureSpec.read(content["spec"]), list(content["parts"]))
            assert len(store.parts) == store.num_parts
        except (AssertionError, KeyError, TypeError, ValueError):
            raise UserError(
                f"'{folder / MANIFEST}' is damaged, or of another version of milan_mm: remove "
                "the folder, and its features are computed again"
            ) from None
        return store

    @property
    def part_size(self) -> int:
        """Images of a part."""
        row = len(self.spec.needs.blocks) * self.spec.width * DTYPES[self.spec.dtype].itemsize
        return min(max(1, _PART_BYTES // row), _PART_IMAGES)

    @property
    def num_parts(self) -> int:
        """Of all images."""
        return -(-self.spec.num_images // self.part_size)

    @property
    def missing(self) -> list[range]:
        """The images of the parts that are not there."""
        size, total = self.part_size, self.spec.num_images
        return [
            range(i * size, min((i + 1) * size, total))
            for i, part in enumerate(self.parts)
            if part is None
        ]

    @property
    def is_complete(self) -> bool:
        """Whether all features are there."""
        return None not in self.parts

    def file(self, pooling: str) -> Path:
        """The tensor file of a pooling."""
        return self.folder / f"{pooling}.safetensors"

    def read(self, pooling: str) -> FeatureSet:
        """Features, labels and names; the features are mapped, not read.

        Raises:
            UserError: When they are not complete, or a file is damaged; see `check` for its
                content.
        """
        spec = self.spec
        if not self.is_complete:
            left = sum(map(len, self.missing))
            raise UserError(
                f"'{self.folder}' has no features yet of {left:,} of {spec.num_images:,} images: "
                "the same command of tools/extract.py goes on"
            )
        images = self.images()
        try:
            with safe_open(self.file(pooling), framework="pt") as file:
                features: Tensor = file.get_tensor(_TENSOR)
        except Exception as error:  # a damaged file leads to any kind of error
            raise self._damaged(self.file(pooling), str(error)) from None
        if tuple(features.shape) != self._shape() or features.dtype != DTYPES[spec.dtype]:
            raise self._damaged(self.file(pooling), f"it has the shape {tuple(features.shape)}")
        return FeatureSet(
            features=features,
            labels=tensor(images.labels),
            classes=tuple(images.classes),
            names=images.names,
            blocks=spec.needs.blocks,
            pooling=pooling,
        )

    def images(self) -> Images:
        """Names, labels and classes of the images.

        Raises:
            UserError: When they are damaged.
        """
        content = read_json(self.folder / IMAGES, VERSION)
        try:
            assert content is not None
            images = Images(content["names"], content["labels"], content["classes"])
            assert len(images.names) == len(images.labels) == self.spec.num_images
            assert all(0 <= label < len(images.classes) for label in images.labels)
        except (AssertionError, KeyError, TypeError):
            raise self._damaged(self.folder / IMAGES, "names and labels do not fit") from None
        return images

    def check(self) -> list[str]:
        """Compare every part with its checksum, at the speed of the disk; bad ones become missing.

        Returns:
            What was wrong, in a line for each file.
        """
        found = []
        for pooling in self.spec.needs.poolings:
            path, bad = self.file(pooling), 0
            for i, part in enumerate(self.parts):
                if part is not None and _checksum(path, *self._place(i)) != part.get(pooling):
                    self.parts[i] = None
                    bad += 1
            if bad:
                found.append(f"{bad} of {len(self.parts)} parts of '{path}' are damaged")
        return found

    def _shape(self) -> tuple[int, int, int]:
        return self.spec.num_images, len(self.spec.needs.blocks), self.spec.width

    def _place(self, part: int) -> tuple[int, int]:
        """First byte of a part in a tensor file, and its bytes."""
        _, blocks, width = self._shape()
        row = blocks * width * DTYPES[self.spec.dtype].itemsize
        first = part * self.part_size
        rows = min(self.part_size, self.spec.num_images - first)
        return len(self._header()) + first * row, rows * row

    def _header(self) -> bytes:
        """What a tensor file starts with; padded, so that the numbers are aligned."""
        size = self.spec.nbytes // len(self.spec.needs.poolings)
        entry = dict(
            dtype=_NAMES[self.spec.dtype], shape=list(self._shape()), data_offsets=[0, size]
        )
        facts = {name: json.dumps(value) for name, value in self.spec.facts.items()}
        text = json.dumps({"__metadata__": facts, _TENSOR: entry}).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def _save(self) -> None:
        write_json(self.folder / MANIFEST, VERSION, dict(spec=self.spec.facts, parts=self.parts))

    def _damaged(self, path: Path, why: str) -> UserError:
        return UserError(
            f"'{path}' is damaged ({why}): remove the folder '{self.folder}', and its features "
            "are computed again"
        )


class Writer:
    """Fills the missing parts of a store, in order.

    Args:
        store: Locked, see `writing`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        poolings = store.spec.needs.poolings
        self._files = {name: os.open(store.file(name), os.O_RDWR) for name in poolings}
        self._todo = [i for i, part in enumerate(store.parts) if part is None]
        self._sums = dict.fromkeys(poolings, 0)
        self._rows = 0  # of the part that is being written

    def add(self, features: Mapping[str, Tensor]) -> None:
        """Write the next images.

        Args:
            features: (n, blocks, D) on the CPU by pooling, of the type of the file.

        Raises:
            OSError: The disk is full or not writable.
        """
        (count,) = {len(rows) for rows in features.values()}
        start = 0
        while start < count:
            part = self._todo[0]
            offset, size = self.store._place(part)
            rows = min(
                self.store.part_size, self.store.spec.num_images - part * self.store.part_size
            )
            stop = min(count, start + rows - self._rows)
            for name, values in features.items():
                content = values[start:stop].contiguous().numpy().tobytes()
                _write(self._files[name], content, offset + self._rows * (size // rows))
                self._sums[name] = zlib.crc32(content, self._sums[name])
            self._rows += stop - start
            start = stop
            if self._rows == rows:
                self._end_part(part)

    def close(self) -> None:
        """Release the files."""
        for file in self._files.values():
            os.close(file)

    def _end_part(self, part: int) -> None:
        for file in self._files.values():
            os.fdatasync(file)
        self.store.parts[part] = dict(self._sums)
        self.store._save()
        self._todo.pop(0)
        self._sums, self._rows = dict.fromkeys(self._sums, 0), 0


def find_store(root: str | Path, spec: FeatureSpec) -> Store | None:
    """A complete store below a folder whose features are those of a spec, or more of them."""
    for manifest in sorted(Path(root).glob(f"{spec.weights_sha256[:8]}_{spec.split}_*/{MANIFEST}")):
        with suppress(UserError):  # of another version
            store = Store.open(manifest.parent)
            if store.is_complete and store.spec.serves(spec):
                return store
    return None


@contextmanager
def writing(root: str | Path, spec: FeatureSpec, images: Images) -> Iterator[Writer]:
    """Lock the store of a spec below a folder and open it for writing; parts that are there stay.

    Raises:
        UserError: When the disk is too small.
        OSError: When it cannot be written.
    """
    folder = Path(root) / spec.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(lock, folder)
        store = _kept(folder, spec, images) or _started(folder, spec, images)
        writer = Writer(store)
        try:
            yield writer
        finally:
            writer.close()
    finally:
        os.close(lock)


def _kept(folder: Path, spec: FeatureSpec, images: Images) -> Store | None:
    """What is there of the same features; None when it has to start anew."""
    try:
        store = Store.open(folder)
        if not store.spec.is_same(spec) or store.images() != images:
            return None
    except UserError:
        return None
    sizes = {
        store.file(name).stat().st_size for name in spec.needs.poolings if store.file(name).exists()
    }
    expected = len(store._header()) + spec.nbytes // len(spec.needs.poolings)
    if sizes != {expected}:
        return None
    store.check()
    return store


def _started(folder: Path, spec: FeatureSpec, images: Images) -> Store:
    """A store with files of their full size, and no features."""
    store = Store(folder, spec)
    store.parts = [None] * store.num_parts
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in spec.needs.poolings:
        store.file(name).unlink(missing_ok=True)
    if (free := free_bytes(folder)) < spec.nbytes:
        raise _full(folder, spec, free)
    for name in spec.needs.poolings:
        header = store._header()
        file = os.open(store.file(name), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _reserve(file, len(header) + spec.nbytes // len(spec.needs.poolings))
            _write(file, header, 0)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full(folder, spec, free_bytes(folder)) from None
            raise
        finally:
            os.close(file)
    content: dict[str, Any] = dict(
        classes=list(images.classes), names=list(images.names), labels=list(images.labels)
    )
    write_json(folder / IMAGES, VERSION, content)
    store._save()
    return store


def _full(folder: Path, spec: FeatureSpec, free: int) -> UserError:
    smaller = " --dtype float16," if spec.dtype == "float32" else ""
    return UserError(
        f"the features need {bytes_of(spec.nbytes)}, '{folder.parent}' has {bytes_of(free)} free: "
        f"free some, choose{smaller} fewer blocks or poolings, or another folder"
    )


def _reserve(file: int, size: int) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(file, size)  # a file system that cannot reserve


def _lock(file: int, folder: Path) -> None:
    """Wait while another process writes there: cells of one encoder may run side by side."""
    said = False
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            if not said:
                print(f"waiting for the process that writes '{folder}'", file=sys.stderr)
            said = True
            time.sleep(_SECONDS_BETWEEN_TRIES)
        except OSError:
            return  # a file system without locks
        else:
            return


def _write(file: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _checksum(path: Path, offset: int, size: int) -> int | None:
    """CRC-32 of a range of bytes; None where the file is shorter."""
    total = 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while size:
                if not (content := file.read(min(size, _READ_BYTES))):
                    return None
                total, size = zlib.crc32(content, total), size - len(content)
    except OSError:
        return None
    return total
