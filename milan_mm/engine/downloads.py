"""Downloads of checkpoints: kept by their whole address, and checked by the digest in it."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from tqdm import tqdm

from milan_mm.errors import UserError
from milan_mm.files import free_bytes, replacing, sha256_of

# torch and OpenMMLab name files after the start of their sha256: resnet50-0676ba61.pth. What has no
# letter may be a date or a count: 1 in 43 digests of eight digits, which then is not compared.
_DIGEST = re.compile(r"-(?=[0-9]*[a-f])([0-9a-f]{8,64})\.[a-z]+$")
_SECONDS = 60  # without an answer
_LARGEST = 32 * 2**30  # bytes; no plain ViT comes near
_CHUNK = 2**20


def download(url: str) -> Path:
    """The file at an address, downloaded once per machine.

    Files of one name at two addresses are two files. A file whose name holds its digest is also
    taken from where torch keeps its own downloads.

    Args:
        url: http or https.

    Raises:
        UserError: When there is no such file, no network, a connection that broke off, no room, or
            another content than the digest in the name says.
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

    Digits alone, such as the date in -20210402.pth, are not taken for one.
    """
    found = _DIGEST.search(name)
    return found[1] if found else ""


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file() or not digest:
        return path.is_file()
    return sha256_of(path).startswith(digest)


def _fetch(url: str, path: Path, digest: str) -> None:
    try:
        request = Request(url, headers={"User-Agent": "milan_mm"})
        with urlopen(request, timeout=_SECONDS) as answer, replacing(path) as partial:
            if urlparse(answer.url).scheme not in ("http", "https"):
                raise _RefusedError(f"it leads to {answer.url}")
            found = _copy(answer, partial)
            if not found.startswith(digest):
                raise _RefusedError(
                    f"its sha256 does not start with '{digest}', as its name says: it is damaged, "
                    "or another file"
                )
    # no network, no such address, a connection that broke off, a full disk
    except (OSError, ValueError, HTTPException, _RefusedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{url} could not be downloaded: {reason}; download it by other means and give the "
            "path of the file"
        ) from None


def _copy(answer: Any, path: Path) -> str:
    """Write all that a server sends, and nothing else; returns the sha256."""
    announced = answer.headers.get("Content-Length")
    size = int(announced) if announced else None
    if (size or 0) > (room := min(_LARGEST, free_bytes(path))):
        raise _RefusedError(f"it has {size} bytes, and there is room for {room} in {path.parent}")
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as file, tqdm(total=size, unit="B", unit_scale=True) as bar:
        while part := answer.read(_CHUNK):
            done += len(part)
            if done > room:
                raise _RefusedError(f"it has more than {room} bytes")
            file.write(part)
            digest.update(part)
            bar.update(len(part))
    if size not in (None, done):  # which Python takes for the end of the file
        raise _RefusedError(f"the connection broke off after {done} of {size} bytes")
    return digest.hexdigest()


class _RefusedError(Exception):
    """What a server sends is not the file."""
