"""Checks of paths that come before the libraries are imported, which takes seconds.

A mistyped path is answered as quickly as a mistyped option. Modules that read these paths make the
same checks, for callers from Python, so each message is written once, here.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milan_mm.errors import ExistingFileError, MissingFileError, UserError
from milan_mm.escaping import one_line

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
CLASS_FOLDERS = "a folder with train/CLASS/* and val/CLASS/*"


@contextmanager
def early_errors() -> Iterator[None]:
    """Turn mistakes of the user into one line and exit code 2, without any library.

    Of several processes one has to speak, which is left to `run.errors.user_errors`: the same
    checks come there. So are paths that the system cannot look up.
    """
    try:
        yield
    except UserError as error:
        if not any(name in os.environ for name in _RANKS):
            print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
            sys.exit(2)
    except OSError:
        pass


def check_weights(*paths: str | Path) -> None:
    """Check that weights files, or their folders, exist.

    Names of shipped encoders and of models on a hub ('hf:...') are left to those who know them.

    Raises:
        MissingFileError: For the first that does not.
    """
    for path in map(Path, paths):
        is_path = path.suffix or len(path.parts) > 1
        if is_path and not re.match(r"\w+:", str(path)) and not path.exists():
            raise missing_weights(path)


def missing_weights(path: str | Path) -> MissingFileError:
    """The error for a weights file that does not exist."""
    return MissingFileError(f"weights file '{path}' does not exist")


def check_checkpoint(path: str | Path) -> None:
    """Check that a checkpoint exists, and is not a config.

    Raises:
        MissingFileError: When there is no such file.
        UserError: For a config.
    """
    if Path(path).suffix == ".py":
        raise UserError(
            f"'{path}' is a config, which has no weights: give a checkpoint that was trained with "
            "it, the epoch_N.pth or iter_N.pth of its work directory"
        )
    if not Path(path).exists():
        raise MissingFileError(f"checkpoint '{path}' does not exist")


def check_own_data(folder: str | Path | None) -> None:
    """Check that the folder of the user's own images is one; None is.

    Raises:
        MissingFileError: When it is not.
    """
    if folder is not None and not Path(folder).is_dir():
        problem = "is a file" if Path(folder).exists() else "does not exist"
        raise MissingFileError(f"--data '{folder}' {problem}: give the folder of your images")


def check_class_data(root: str | Path, option: str = "--data") -> None:
    """Check that a folder of images in folders of classes exists.

    Args:
        option: That names it, for the message.

    Raises:
        MissingFileError: When it does not.
    """
    if not Path(root).is_dir():
        raise MissingFileError(
            f"data folder '{root}' does not exist: give {option} {CLASS_FOLDERS}"
        )


def check_new(out: str | Path, source: str | Path) -> None:
    """Check that an output does not exist; one that is or holds its own source is another mistake.

    Raises:
        ExistingFileError: When it does.
    """
    file = Path(source).resolve()
    if Path(out).exists() and Path(out).resolve() not in (file, file.parent):
        raise ExistingFileError(f"output '{out}' exists: pass --force to replace it")
