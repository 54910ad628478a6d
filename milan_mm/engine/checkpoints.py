"""Checkpoints: read without running code, written whole or not at all.

mmengine's own loaders fall back to full unpickling, which runs whatever code a file hides, and it
writes in place. `safe_loading` replaces its loaders as long as a run of this package lasts, for
`--resume`, `load_from`, `init_cfg=dict(type='Pretrained')` and the test tool alike: every scheme is
read by us or refused. The file backend `atomic_local` is added at the import, since dumped configs
name it.
"""

import difflib
import errno
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import ClassVar

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from milan_mm.engine.downloads import download
from milan_mm.errors import UserError
from milan_mm.files import write_whole
from milan_mm.weights.reading import read_checkpoint

_SCHEME = re.compile(r"[\w.+-]+://")
# Seconds between the tries to write a file, a minute together.
WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_GONE = "the folder is gone: bring its disk back, then --resume"
# What another try does not change.
_FINAL = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EFBIG,
)


def load_from_local(filename: str, map_location: str | None = None) -> dict:
    """Read a local file onto the CPU; whoever fills a model or an optimizer moves the tensors.

    Args:
        filename: See `read_checkpoint`.
        map_location: Ignored; mmengine passes it.

    Raises:
        UserError: See `read_checkpoint`.
    """
    if _SCHEME.match(filename):  # one that nobody has registered
        load_from_elsewhere(filename)
    checkpoint = read_checkpoint(os.path.expanduser(filename))
    meta = checkpoint.get("meta")
    if isinstance(meta, dict):
        # mmengine's resume executes this text as a Python config, only to compare GPU numbers
        meta.pop("config", None)
    return checkpoint


def load_from_http(filename: str, map_location: str | None = None) -> dict:
    """Download a file, see `download`, then read it like a local one."""
    return load_from_local(str(download(filename)))


def load_from_torchvision(filename: str, map_location: str | None = None) -> dict:
    """Read the weights that torchvision publishes under a name, e.g. torchvision://resnet50."""
    return load_from_http(_address(filename, mmengine_checkpoint.get_torchvision_models()))


def load_from_openmmlab(filename: str, map_location: str | None = None) -> dict:
    """Read the weights of a name in mmengine's list, e.g. open-mmlab://resnet50_caffe."""
    addresses = mmengine_checkpoint.get_external_models()
    renamed = mmengine_checkpoint.get_deprecated_model_names()
    known = {old: addresses[new] for old, new in renamed.items() if new in addresses}
    return load_from_http(_address(filename, known | addresses))


def load_from_mmcls(filename: str, map_location: str | None = None) -> dict:
    """Read the backbone of a classifier in mmengine's list, e.g. mmcls://mobilenet_v2."""
    checkpoint = load_from_http(_address(filename, mmengine_checkpoint.get_mmcls_models()))
    tensors, prefix = checkpoint.get("state_dict", checkpoint), "backbone."
    backbone = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return dict(state_dict=backbone)


def load_from_elsewhere(filename: str, map_location: str | None = None) -> dict:
    """Refuse a scheme whose loader might run code that a file hides.

    Raises:
        UserError: Always, with the remedy.
    """
    raise UserError(
        f"'{filename}' cannot be read safely: checkpoints come from local files, http(s)://, "
        "torchvision://, open-mmlab:// and mmcls://; copy it to a local file and give its path"
    )


def _address(filename: str, addresses: Mapping[str, str]) -> str:
    """The address of a name after its scheme.

    Raises:
        UserError: For an unknown name, and for a name of a file that is not at a web address.
    """
    name = filename.partition("://")[2]
    address = addresses.get(name)
    if address is None:
        close = difflib.get_close_matches(name, addresses, n=3)
        hint = f"did you mean {' or '.join(close)}" if close else "give the path of a local file"
        raise UserError(f"'{filename}': mmengine has no weights of the name '{name}': {hint}")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"'{filename}' stands for the file '{address}': give its path instead")
    return address


_LOADERS: dict[str, Callable[..., dict]] = {
    "": load_from_local,
    "http://": load_from_http,
    "https://": load_from_http,
    "torchvision://": load_from_torchvision,
    "modelzoo://": load_from_torchvision,
    "open-mmlab://": load_from_openmmlab,
    "openmmlab://": load_from_openmmlab,
    "mmcls://": load_from_mmcls,
}


@contextmanager
def safe_loading() -> Iterator[None]:
    """Inside the block, mmengine reads no checkpoint by a loader that might run hidden code.

    Afterwards it has its own loaders again, for others who use it in the same process.
    """
    # mmengine can replace loaders, but neither lists them nor gives them back
    before = CheckpointLoader._schemes.copy()
    try:
        for prefix in before:
            loader = _LOADERS.get(prefix, load_from_elsewhere)
            CheckpointLoader.register_scheme(prefix, loader, force=True)
        yield
    finally:
        CheckpointLoader._schemes = before


class AtomicLocalBackend(LocalBackend):
    """The local file system, where a write replaces the file in one step, and is tried again.

    With mmengine's own backend, a full disk or a killed job destroys the previous good file of that
    name. Select this one with `backend_args=dict(backend='atomic_local')`.

    A file server that is away for some seconds, and a disk that is full until somebody makes room,
    cost no run: a write is tried for a minute. A folder that was written to and is gone is not made
    again: it would be on another disk, under the place where its own was mounted.
    """

    _folders: ClassVar[set[Path]] = set()  # that were written to

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; the file holds all of them or is what it was before.

        Raises:
            OSError: The disk is full, gone or not writable; nothing is left of the new file.
        """
        path = Path(filepath).absolute()
        for wait in (*WAITS, None):
            try:
                if path.parent in self._folders and not path.parent.is_dir():
                    raise FileNotFoundError(errno.ENOENT, _GONE, str(path.parent))
                write_whole(path, obj)
            except OSError as error:
                if wait is None or error.errno in _FINAL:
                    raise
                print_log(
                    f"'{error.filename}' was not written, {error.strerror}: trying again in "
                    f"{wait:g} s",
                    "current",
                    logging.WARNING,
                )
                sleep(wait)
            else:
                self._folders.add(path.parent)
                return

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, as `put` writes bytes."""
        self.put(obj.encode(encoding), filepath)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file, or say why that failed: an old checkpoint too many ends no run."""
        try:
            super().remove(filepath)
        except OSError as error:
            why = f"'{filepath}' could not be removed: {error.strerror}"
            print_log(why, "current", logging.WARNING)


# force: allows this module to be imported again
register_backend("atomic_local", AtomicLocalBackend, force=True)
