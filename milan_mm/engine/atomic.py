"""Checkpoints that are either whole or not there."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from milan_mm.files import replacing


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
        with replacing(filepath) as partial:
            partial.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, as `put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


register_backend("atomic_local", AtomicLocalBackend, force=True)
