"""What a checkpoint's name tells before anything heavy is imported for it."""

from pathlib import Path

from milan_mm.errors import MissingFileError, UserError


def check_checkpoint_name(path: str) -> None:
    """Refuse what cannot be a checkpoint.

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
