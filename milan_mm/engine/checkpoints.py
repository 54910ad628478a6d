"""Checkpoints: read without running code, written whole or not at all.

mmengine's own loaders fall back to full unpickling, which runs whatever code a file hides, and it
writes in place. Importing this module replaces the loaders of local files and downloads, for
`--resume`, `load_from`, `init_cfg=dict(type='Pretrained')` and the test tool alike, and adds the
file backend `atomic_local`. Both use mmengine's own extension points. Other schemes, such as
`torchvision://`, keep their loaders.
"""

import errno
import os
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import CheckpointLoader

from milan_mm.files import replacing
from milan_mm.weights.reading import read_checkpoint


def load_from_local(filename: str, map_location: str | None = None) -> dict:
    """Read a local file onto the CPU; whoever fills a model or an optimizer moves the tensors.

    Args:
        filename: See `read_checkpoint`.
        map_location: Ignored; mmengine passes it.

    Raises:
        UserError: See `read_checkpoint`.
    """
    checkpoint = read_checkpoint(os.path.expanduser(filename))
    meta = checkpoint.get("meta")
    if isinstance(meta, dict):
        # mmengine's resume executes this text as a Python config, only to compare GPU numbers
        meta.pop("config", None)
    return checkpoint


def load_from_http(filename: str, map_location: str | None = None) -> dict:
    """Download once per machine into torch's cache, then read like a local file."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(filename).path).name
    if not path.exists() and get_local_rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(path))
    barrier()
    return load_from_local(str(path))


class AtomicLocalBackend(LocalBackend):
    """The local file system, where a write replaces the file in one step.

    With mmengine's own backend, a full disk or a killed job destroys the previous good file of that
    name. Select this one with `backend_args=dict(backend='atomic_local')`.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; the file holds all of them or is what it was before.

        Raises:
            OSError: The disk is full or not writable; nothing is left of the new file.
        """
        try:
            with replacing(filepath) as partial:
                partial.write_bytes(obj)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.strerror = f"{error.strerror}: it needs {len(obj) / 2**20:.1f} MiB"
            raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, as `put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


# force: replaces mmengine's loaders, and allows this module to be imported again
CheckpointLoader.register_scheme("", load_from_local, force=True)
CheckpointLoader.register_scheme(["http://", "https://"], load_from_http, force=True)
register_backend("atomic_local", AtomicLocalBackend, force=True)
