"""The checksums that torch writes with every record of a file, and does not look at itself."""

import zipfile
from pathlib import Path

from mmengine.logging import print_log

from milan_mm.errors import UserError

# What torch's files from before version 1.6 start with, inside of a pickle.
_OLD_FORMAT = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def check_records(path: Path) -> None:
    """Compare every record of a torch file with its CRC-32, before anything of it is loaded.

    torch's files are zip archives. `torch.load` takes a record with a flipped bit for one with
    other weights; a CRC-32 finds every single flipped bit. Reading a file of 100 MB for this takes
    20 ms. Files in torch's format from before version 1.6 have no checksums, nor have those that
    were saved with `torch.serialization.set_crc32_options(False)`: the log says so.

    Args:
        path: Any file.

    Raises:
        UserError: Naming the first record that differs.
    """
    with path.open("rb") as file:
        start = file.read(32)
    if not start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        if _OLD_FORMAT in start:  # anything else is refused by the reader
            _say_unchecked(path, "is in torch's old format")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            filled = [record for record in archive.infolist() if record.file_size]
            if filled and not any(record.CRC for record in filled):
                _say_unchecked(path, "was saved without them")
                return
            damaged = archive.testzip()
    except Exception as error:  # a damaged directory leads to any kind of error
        raise UserError(_refusal(path, f"its zip archive cannot be read ({error})")) from None
    if damaged is not None:
        record = f"record '{damaged}' does not have the CRC-32 that was written with it"
        raise UserError(_refusal(path, record))


def _refusal(path: Path, reason: str) -> str:
    return f"weights file '{path}' is damaged: {reason}; copy or download it again"


def _say_unchecked(path: Path, reason: str) -> None:
    print_log(f"'{path}' has no checksums, so damage would not be noticed: it {reason}", "current")
