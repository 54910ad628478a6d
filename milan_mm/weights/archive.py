"""The zip archives of torch and NumPy, read record by record, within the limits of a `Budget`."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from milan_mm.weights.budget import Budget, RefusedError, check_list

_START = b"PK\x03\x04"
_HEADER = struct.Struct("<4s22xHH")  # of a record: how long its name and its other fields are
_CHUNK = 2**20
_UTF8 = 0x800  # of the flags: how the name is written


class DamagedError(Exception):
    """Bytes that are not those that were written; its text says where."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, or the start of one."""
    with path.open("rb") as file:
        return file.read(4) == _START or zipfile.is_zipfile(file)


class Archive:
    """An open archive.

    Every record that is read is compared with its CRC-32, which finds every single flipped bit.
    `torch.load` does not look at it. A file that was saved without them
    (`torch.serialization.set_crc32_options(False)`) is read, and the log says so.

    Args:
        path: Of the file.
        budget: What it may ask for.

    Raises:
        DamagedError: When its list of records cannot be read.
        RefusedError: When its records are larger than the file.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self.budget = budget
        self._file = _Opened(path)
        try:
            self._records = self._read_directory(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Of all records, in the order of the list."""
        return list(self._records)

    def size(self, name: str) -> int:
        """Bytes of a record.

        Raises:
            DamagedError: When there is no such record.
        """
        return self._record(name).file_size

    def read(self, name: str) -> bytes:
        """The content of a record.

        Raises:
            DamagedError: When it is missing or damaged.
            RefusedError: When it is compressed, or the file has asked for too much.
        """
        return self.read_tensor(name).numpy().tobytes()

    def read_tensor(self, name: str, compressed: bool = False) -> Tensor:
        """The content of a record: (N,) uint8, in memory that torch has allocated.

        Args:
            compressed: Whether it may be compressed.

        Raises:
            DamagedError, RefusedError: See `read`.
        """
        record = self._record(name)
        is_stored = record.compress_type == zipfile.ZIP_STORED
        if not is_stored and not compressed:
            raise RefusedError(
                "holds compressed records, and torch writes none: it was packed again; unpack it "
                "and save its tensors by torch.save"
            )
        self.budget.take(record.file_size)
        content = torch.empty(record.file_size, dtype=torch.uint8)
        if is_stored:
            self._seek(record)
            self._fill(content, self._file.readinto, record)
        else:
            with self._archive.open(record) as file:
                self._fill(content, file.readinto, record)  # type: ignore[attr-defined]
        return content

    def check(self) -> None:
        """Compare every record with its CRC-32.

        Raises:
            DamagedError: Naming the first that differs.
        """
        if self._has_checksums and (name := self._archive.testzip()):
            raise DamagedError(f"record '{name}' does not have the CRC-32 that was written with it")

    def _record(self, name: str) -> zipfile.ZipInfo:
        if name not in self._records:
            raise DamagedError(f"record '{name[:80]}' is missing")
        return self._records[name]

    def _seek(self, record: zipfile.ZipInfo) -> None:
        """Go to the first byte of a record's content."""
        self._file.seek(record.header_offset)
        head = self._file.read(_HEADER.size)
        name = record.orig_filename.encode("utf-8" if record.flag_bits & _UTF8 else "cp437")
        if len(head) == _HEADER.size and head.startswith(_START):
            _, name_size, extra_size = _HEADER.unpack(head)
            if self._file.read(name_size) == name:
                self._file.seek(extra_size, io.SEEK_CUR)
                return
        raise DamagedError(f"record '{record.filename}' is not where the list of records says")

    def _fill(
        self, content: Tensor, read_into: Callable[[memoryview], int], record: zipfile.ZipInfo
    ) -> None:
        view, done, checksum = content.numpy().data, 0, 0
        while done < len(view):
            part = view[done : done + _CHUNK]  # read and checked while it is in the cache
            if not (number := read_into(part)):
                raise DamagedError(f"record '{record.filename}' is cut off")
            checksum = zlib.crc32(part[:number], checksum)
            done += number
        if self._has_checksums and checksum != record.CRC:
            raise DamagedError(
                f"record '{record.filename}' does not have the CRC-32 that was written with it"
            )

    def _read_directory(self, path: Path) -> dict[str, zipfile.ZipInfo]:
        try:
            self._archive = zipfile.ZipFile(self._file)
        except RefusedError:
            raise
        except Exception as error:  # a damaged list leads to any kind of error
            raise DamagedError(f"its zip archive cannot be read ({error})") from None
        records = self._archive.infolist()
        for record in records:
            stored = record.compress_type == zipfile.ZIP_STORED
            if record.flag_bits & 1 or (stored and record.file_size != record.compress_size):
                raise DamagedError(f"its list of records is wrong about '{record.filename[:80]}'")
        if sum(record.compress_size for record in records) > self.budget.size:
            raise RefusedError("lists more bytes than it has: it is damaged, or made to harm")
        by_name = {record.filename: record for record in records}
        if len(by_name) != len(records):
            raise RefusedError("lists two records under one name: it is damaged, or made to harm")
        filled = [record for record in records if record.file_size]
        self._has_checksums = not filled or any(record.CRC for record in filled)
        if not self._has_checksums:
            say_unchecked(path, "was saved without them")
        return by_name


class _Opened(io.FileIO):
    """A file of which no list of records is read that would fill the memory."""

    def read(self, size: int | None = -1) -> bytes:
        check_list(size or 0, "records")
        return super().read(-1 if size is None else size) or b""


def say_unchecked(path: Path, reason: str) -> None:
    """Log that damage to a file would not be noticed."""
    print_log(f"'{path}' has no checksums, so damage would not be noticed: it {reason}", "current")
