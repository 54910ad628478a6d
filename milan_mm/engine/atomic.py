"""Checkpoints that are either whole or not there."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from mmengine.fileio import LocalBackend, register_backend


class AtomicLocalBackend(LocalBackend):
    """The local file system, with writes that replace the target in one step.

    mmengine writes in place, so that a full disk or a killed job destroys the previous good file
    of that name. Select it with `backend_args=dict(backend='atomic_local')`.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; the file holds all of them or is what it was before.

        Raises:
            OSError: When the disk is full or not writable. Nothing is left behind.
        """
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        # a sibling, since a rename is atomic within one file system only
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            partial = Path(file.name)
            try:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
                partial.chmod(0o666 & ~_umask())  # temporary files are private to their owner
                os.replace(partial, target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, as `put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


register_backend("atomic_local", AtomicLocalBackend, force=True)
