"""Reading files that are files, and atomic writes.

Atomic means: the new file appears whole, or the old one stays; a killed writer leaves nothing.

What is written has a hidden name beside its place, `.NAME.HOST.RANDOM.partial`, and its writer
holds a lock on it. The system drops a lock with its process, however that ends, and network file
systems pass locks on to other machines. So whoever writes next in a folder can tell what killed
writers left there, and removes it.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from milan_mm.errors import UserError

# Of Pillow's readers those that are needed. Some others start programs: EPS runs Ghostscript.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_PARTIAL, _CONTENT, _OLD = ".partial", ".d", ".old"
_NAME = re.compile(r"\..+\.(?P<host>[^.]*)\.[0-9a-f]{8}\.partial")
# Where locks may stay on one machine, only what nobody has written to for so long is removed.
_SECONDS_OF_OTHERS, _SECONDS_WITHOUT_LOCKS = 600.0, 86_400.0
_SECONDS_BETWEEN_LOOKS = 60.0
_looked: dict[Path, float] = {}  # when this process last looked for leftovers, by folder


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file: a pipe would block its reader, and some devices have no end.

    Raises:
        UserError: When it is something else.
        OSError: When it cannot be opened.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError("it is a pipe or a device: put a regular file in its place")
    return file


def _open_at_once(name: str, flags: int) -> int:
    """Also where nobody writes into a pipe."""
    return os.open(name, flags | os.O_NONBLOCK)


def read_regular(path: str | Path) -> bytes:
    """The content of a regular file, see `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def sha256_of(path: str | Path) -> str:
    """Checksum of a file's bytes, in 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Write to a temporary sibling that replaces `path` if the block succeeds.

    Several processes may replace one file: each has its own sibling, and the last one wins. The new
    file has the mode, the group and the access list that the system gives to any new file there.

    Args:
        path: File to replace in one step; its folder is created if missing.
        durable: Whether the file must survive a power failure right afterwards. If not, writing is
            faster, but a power failure may leave an empty file.

    Yields:
        The sibling, since a rename is atomic only within a file system. It is removed if the block
        raises.

    Raises:
        OSError: The disk is full or not writable.
    """
    path = Path(path)
    with _naming(path), _claim_beside(path) as (partial, file):
        yield partial
        made = os.fstat(file).st_mode
        if partial.stat().st_mode != made:  # the block has put another file in its place
            partial.chmod(stat.S_IMODE(made))
        if durable:
            _sync(partial)
        os.replace(partial, path)
        if durable:
            with suppress(OSError):  # some file systems sync no folders
                _sync(path.parent)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Fill a temporary folder that replaces `path` if the block succeeds.

    Args:
        path: Folder to replace.

    Yields:
        A folder beside it, of the same name, in a hidden one.

    Raises:
        OSError: The disk is full or not writable.
    """
    path = Path(path)
    with _naming(path), _claim_beside(path) as (claim, _):
        content = _content(claim)
        new = content / path.name
        try:
            new.mkdir(parents=True)
            yield new
            if path.exists():
                os.replace(path, content / _OLD)
            os.replace(new, path)
        finally:
            _remove_content(content)


def write_whole(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write a file whole or not at all, see `replacing`.

    Raises:
        OSError: The disk is full or not writable; of a full disk with the bytes that are needed.
    """
    try:
        with replacing(path, durable) as partial:
            partial.write_bytes(content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.strerror = f"{error.strerror}: it needs {len(content) / 2**20:.1f} MiB"
        raise


def remove_leftovers(folder: str | Path) -> int:
    """Remove what killed writers left in a folder, and nothing that is being written.

    Returns:
        How many files and folders that were.
    """
    removed = 0
    with suppress(OSError):  # a folder that is not there, or of others
        for entry in list(os.scandir(folder)):
            if name := _NAME.fullmatch(entry.name):
                with suppress(OSError):  # another process may be faster
                    removed += _remove_unheld(Path(entry.path), name["host"])
    return removed


def free_bytes(path: str | Path) -> int:
    """What the file system of a path, which need not exist, has free for this user.

    Quotas are not seen.
    """
    place = Path(path).absolute()
    return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still what is found under a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the system name the file itself; those of full disks name none."""
    try:
        yield
    except OSError as error:
        hidden = _PARTIAL in str(error.filename)
        if error.errno is not None and (error.filename is None or hidden):
            error.filename = str(path)
        raise


@contextmanager
def _claim_beside(path: Path) -> Iterator[tuple[Path, int]]:
    """A new hidden file beside a path, locked and open while the block lasts, and then removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _look(path.parent)
    while True:
        # a part of the name, since names have a limit
        name = f".{path.name[:40]}.{_host()}.{secrets.token_hex(4)}{_PARTIAL}"
        claim = path.with_name(name)
        file = os.open(claim, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if is_at(file, claim):
            break
        os.close(file)  # between both, another process took it for a leftover
    try:
        yield claim, file
    finally:
        os.close(file)
        if not _content(claim).exists():  # else the next writer finishes what this one could not
            claim.unlink(missing_ok=True)


def _look(folder: Path) -> None:
    """Look for leftovers now and then: some folders get a million files."""
    now = time.monotonic()
    if now - _looked.get(folder, -_SECONDS_BETWEEN_LOOKS) >= _SECONDS_BETWEEN_LOOKS:
        _looked[folder] = now
        remove_leftovers(folder)


def _remove_unheld(claim: Path, host: str) -> bool:
    file = os.open(claim, os.O_RDWR)  # network file systems lock for writing only if it is open so
    try:
        least = 0.0 if host == _host() else _SECONDS_OF_OTHERS
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # it is being written
            return False
        except OSError:
            least = _SECONDS_WITHOUT_LOCKS
        if time.time() - os.fstat(file).st_mtime < least or not is_at(file, claim):
            return False
        _remove_content(_content(claim))
        claim.unlink()
        return True
    finally:
        os.close(file)


def _remove_content(content: Path) -> None:
    """Finish what a writer began: it may have moved the old folder out, and not the new one in."""
    if (content / _OLD).exists():
        for new in content.iterdir():
            if new.name != _OLD and not (content.parent / new.name).exists():
                os.replace(new, content.parent / new.name)
    shutil.rmtree(content, ignore_errors=True)


def _host() -> str:
    return socket.gethostname().partition(".")[0][:20]


def _content(claim: Path) -> Path:
    return claim.with_name(claim.name + _CONTENT)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
