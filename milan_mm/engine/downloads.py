"""Downloads of checkpoints: kept by their whole address, and checked by the digest in it."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse

import torch

from milan_mm.errors import UserError

# torch and OpenMMLab name files after the start of their sha256: resnet50-0676ba61.pth
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
_DATE = re.compile(r"20\d\d[01]\d[0-3]\d")


def download(url: str) -> Path:
    """The file at an address, downloaded once per machine.

    Files of one name at two addresses are two files. A file whose name holds its digest is also
    taken from where torch keeps its own downloads.

    Args:
        url: http or https.

    Raises:
        UserError: When there is no such file, no network, or another content than the digest in
            the name says.
    """
    name = Path(urlparse(url).path).name or "checkpoint.pth"
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    digest = digest_in(name)
    if digest and _has_digest(folder / name, digest):
        return folder / name
    if not _has_digest(path, digest):
        with _alone(path.parent):
            if not _has_digest(path, digest):  # another process may have been faster
                _fetch(url, path, digest)
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let the other processes wait, of this run, connected or not yet, and of other runs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield  # `_fetch` says why
        return
    try:
        with suppress(OSError):  # a file system without locks: each process downloads
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # and so the lock


def digest_in(name: str) -> str:
    """The first digits of the sha256 that a file's name states; '' where it states none.

    A date at this place, such as -20210402.pth, is none.
    """
    found = _DIGEST.search(name)
    return found[1] if found and not _DATE.fullmatch(found[1]) else ""


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file() or not digest:
        return path.is_file()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digest)


def _fetch(url: str, path: Path, digest: str) -> None:
    remedy = "download it by other means and give the path of the file"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest or None)
    except RuntimeError:  # of torch, for another digest
        raise UserError(
            f"{url} is damaged or another file: its sha256 does not start with '{digest}', as its "
            f"name says; {remedy}"
        ) from None
    except (OSError, ValueError) as error:  # no network, no such address, a full disk
        raise UserError(f"{url} could not be downloaded: {error}; {remedy}") from None
