"""Checks of folders: where runs write, and where the recipes look for their data."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from milan_mm.doctor.fault import Concern, Fault
from milan_mm.files import free_bytes

MIN_FREE_GIB = 2
# What the recipes read, below data/; docs/start.md says how to get it.
DATA = {
    "imagenet": ("train", "val"),
    "coco": ("annotations", "train2017", "val2017"),
    "ade/ADEChallengeData2016": ("annotations", "images"),
}


def check_work_dirs() -> str:
    """Check that runs can write where they do by default, and how much."""
    folder = next(path for path in (Path("work_dirs"), Path.cwd()) if path.is_dir())
    elsewhere = "write elsewhere: --work-dir DIR"
    try:
        with TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise Fault(f"'{folder.resolve()}': {error.strerror}", elsewhere) from None
    free = free_bytes(folder) / 2**30
    if free < MIN_FREE_GIB:
        raise Fault(
            f"{free:.1f} GiB free in {folder.resolve()}, wanted {MIN_FREE_GIB} GiB",
            f"free some space, or {elsewhere}",
        )
    return f"{folder.resolve()} can be written, {free:.0f} GiB free (wanted {MIN_FREE_GIB})"


def check_data() -> str:
    """Look for the recipes' data sets: missing ones are said, broken ones are a concern."""
    there, missing = [], []
    for name, parts in DATA.items():
        folder = Path("data", name)
        if not os.path.lexists(folder):
            missing.append(str(folder))
            continue
        for path in (folder, *(folder / part for part in parts)):
            if reason := _unreadable(path):
                raise Concern(
                    f"'{path}' {reason}, so recipes on {folder} will not start",
                    f"python tools/check_data.py --help, or another folder: --data DIR; {folder} "
                    f"holds {', '.join(parts)}",
                )
        there.append(str(folder))
    found = f"found {', '.join(there)}" if there else "none"
    return found + (f"; not here: {', '.join(missing)}" if missing else "")


def _unreadable(folder: Path) -> str:
    """What is wrong with a folder of data; empty if nothing is."""
    if folder.is_symlink() and not folder.exists():
        return f"is a link to '{os.readlink(folder)}', which does not exist"
    if not folder.is_dir():
        return "is missing"
    if not os.access(folder, os.R_OK | os.X_OK):
        return "may not be read by you"
    with os.scandir(folder) as entries:
        return "" if next(entries, None) else "is empty"
