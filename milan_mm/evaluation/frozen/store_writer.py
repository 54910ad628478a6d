"""Writing features to the disk, part by part, by one process at a time."""

import errno
import fcntl
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.spec import FeatureSpec
from milan_mm.evaluation.frozen.store import IMAGES, MANIFEST, VERSION, Images, Store
from milan_mm.files import free_bytes
from milan_mm.run.records.json_file import write_json
from milan_mm.text import bytes_of

_LOCK = ".lock"
_SECONDS_BETWEEN_TRIES = 0.5


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
            offset, size = self.store.place(part)
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
        self.store.save()
        self._todo.pop(0)
        self._sums, self._rows = dict.fromkeys(self._sums, 0), 0


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
    expected = len(store.header()) + spec.nbytes // len(spec.needs.poolings)
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
        header = store.header()
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
    store.save()
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
