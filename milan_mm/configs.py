"""Find configs and tools by name, in a checkout and in an installed wheel, from any directory.

mmengine, which takes seconds to import, is imported only where a config is read: the command line
lists configs and tools without it.
"""

import difflib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from milan_mm.errors import MissingFileError, UserError

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """Return the folder `name` ("configs" or "tools") that belongs to this installation.

    A wheel holds it at `milan_mm/.mim/<name>` (OpenMMLab's convention), a checkout at its top.

    Raises:
        MissingFileError: neither place has it.
    """
    return _shipped(name, f"{name}/")


def shipped_file(name: str) -> Path:
    """Return a file that belongs to this installation, such as "constraints.txt".

    Raises:
        MissingFileError: neither place has it, see `shipped_folder`.
    """
    return _shipped(name, name)


def list_constraints() -> dict[str, Path]:
    """Return the sets of versions that were run: the usual one, named "", then the others."""
    folder = shipped_file("constraints.txt").parent
    return {p.stem.partition("-")[2]: p for p in sorted(folder.glob("constraints*.txt"))}


def _shipped(name: str, called: str) -> Path:
    for place in (_PACKAGE / ".mim" / name, _PACKAGE.parent / name):
        # those of a checkout are links, for mmengine, which looks nowhere else
        if place.exists() and not place.is_symlink():
            return place
    raise MissingFileError(
        f"{called} is missing next to {_PACKAGE}: install milan_mm again from a checkout or a wheel"
    )


def list_configs() -> list[str]:
    """Return every recipe's name relative to configs/, without `.py`; bases (`_base_`) left out."""
    folder = shipped_folder("configs")
    names = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return sorted(name.with_suffix("").as_posix() for name in names if "_base_" not in name.parts)


def find_config(name: str | Path) -> Path:
    """Return the config file that `name` means.

    Args:
        name: an existing file, a name relative to configs/ with or without `.py` (also with a
            leading `configs/`), or the bare stem of a recipe.

    Raises:
        MissingFileError: nothing fits; the message has the closest names.
        UserError: a bare stem fits several recipes; the message names them.
    """
    given = Path(name)
    if given.is_file():
        return given
    wanted = given.as_posix().removesuffix(".py").removeprefix("milan_mm::")
    wanted = wanted.removeprefix("./").removeprefix("configs/")
    folder = shipped_folder("configs")
    known = list_configs()
    if wanted in known:
        return folder / f"{wanted}.py"
    same_stem = [config for config in known if config.rsplit("/", 1)[-1] == wanted]
    if len(same_stem) > 1:
        raise UserError(f"config '{name}' is ambiguous: say which of {', '.join(same_stem)}")
    if same_stem:
        return folder / f"{same_stem[0]}.py"
    raise MissingFileError(
        f"config '{name}' is neither a file nor a recipe; closest: "
        f"{', '.join(_closest(wanted, known))}; `python -m milan_mm configs` lists all"
    )


def load(name: str | Path) -> "Config":
    """Read the config that `name` means.

    Args:
        name: See `find_config`.

    Raises:
        MissingFileError: nothing fits, see `find_config`; or a `_base_` of `milan_mm::` is missing.
        UserError: a bare stem fits several recipes.
    """
    from mmengine.config import Config

    path = find_config(name)
    find_bases()
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        if base := re.search(r"milan_mm/\.mim/configs/([^\"']+)", str(error)):
            raise MissingFileError(_not_a_base(path, base[1])) from None
        raise


def _not_a_base(path: Path, base: str) -> str:
    """What to say of a config whose `_base_` is not a recipe of this package."""
    known = list_configs()
    names = _closest(base.removesuffix(".py"), known)
    names = names[:1] if base in known else names  # only .py is missing
    closest = ", ".join(f"milan_mm::{name}.py" for name in names)
    return f"config '{path}': there is no 'milan_mm::{base}' for its _base_; closest: {closest}"


def find_bases() -> None:
    """Let `_base_ = "milan_mm::..."` work, and `"mmseg::..."` with the maintained fork of mmseg.

    mmengine looks a prefix up in a table of OpenMMLab's projects, which has no place for others. It
    names the distribution "mmsegmentation", which the fork is not; the module name finds either
    one, and is what the table holds for mmdet and mmpretrain already. There is no setting for it.
    The change holds for the whole process, so `Config.fromfile` also works after a call.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE["milan_mm"] = "milan_mm"
    if find_spec("mmseg"):
        MODULE2PACKAGE["mmseg"] = "mmseg"


def recipe(name: str) -> str:
    """The path of a recipe, for `_base_` where nothing of this package was imported before.

    `_base_ = __import__("milan_mm").recipe("det/...")` works in every program that reads configs by
    mmengine: mmdet's and mmseg's own tools, and plain `Config.fromfile`.

    Args:
        name: See `find_config`.

    Raises:
        MissingFileError, UserError: See `find_config`.
    """
    find_bases()
    return str(find_config(name))


def list_tools() -> dict[str, Path]:
    """Return the scripts of tools/ by name (without suffix), Python and shell."""
    folder = shipped_folder("tools")
    paths = sorted(p for p in folder.iterdir() if p.suffix in {".py", ".sh"})
    return {path.stem: path for path in paths if not path.stem.startswith("_")}


def _closest(wanted: str, known: list[str], count: int = 3) -> list[str]:
    """Return the `count` names most like `wanted`, compared in full and by their last part."""

    def likeness(config: str) -> float:
        spellings = (config, config.rsplit("/", 1)[-1])
        return max(difflib.SequenceMatcher(None, wanted, text).ratio() for text in spellings)

    return sorted(known, key=likeness, reverse=True)[:count]
