"""The file of a config as Python source: which names it sets, its bases, and other values of names.

A config that mmengine has read does not show any of this.
"""

import ast
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.configs import find_config, load
from milan_mm.registry import SCOPE
from milan_mm.run.fields.keys import FIRST_KEYS

_OWN_FOLDER = re.compile(r"\{\{\s*fileDirname\s*\}\}")  # which mmengine replaces


def local_names(cfg: Config) -> set[str]:
    """Names that the config's file or its bases set, those of other packages left out."""
    return _local_names(Path(cfg.filename)) if can_evaluate(cfg) else set()


def can_evaluate(cfg: Config) -> bool:
    """Whether the config has a file of Python with names, and not of imports."""
    path = cfg.filename
    return bool(path) and str(path).endswith(".py") and Path(path).is_file()


def evaluate(path: Path, settings: Mapping[str, Any]) -> Config:
    """The config of a file in which some names have other values.

    Copies of the file and of its bases, those of other packages left out, get an assignment after
    each of theirs. A whole name is replaced wherever it is set; a part of one where it was set
    last.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Config.fromfile(_copy(path, dict(settings), Path(folder)))


def _copy(path: Path, settings: dict[str, Any], folder: Path) -> Path:
    tree = _parse(path)
    own = _assigned(tree)
    parts = {name: value for name, value in settings.items() if "." in name}
    here = {n: v for n, v in parts.items() if n.partition(".")[0] in own}
    for_bases = {name: value for name, value in settings.items() if name not in here}
    body: list[ast.stmt] = []
    for statement in tree.body:
        names = _targets(statement)
        if "_base_" in names:
            copies = [
                base
                if "::" in base
                else str(_copy(path.parent / base, for_bases, folder / str(index)))
                for index, base in enumerate(_bases(tree))
            ]
            body += ast.parse(f"_base_ = {copies!r}").body
            continue
        body.append(statement)
        for name, value in settings.items():
            first, *rest = name.split(".")
            is_last = own.get(first) is statement
            if first in names and (not rest or (name in here and is_last)):
                keys = "".join(f"[{int(k) if k.isdigit() else k!r}]" for k in rest)
                body += ast.parse(f"{first}{keys} = {value!r}").body
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / path.name
    tree.body = body
    copy.write_text(ast.unparse(tree), encoding="utf-8")
    return copy


def _parse(path: Path) -> ast.Module:
    """A config's statements, in which its folder stays the same when it is copied elsewhere."""
    folder = path.absolute().parent.as_posix()
    return ast.parse(_OWN_FOLDER.sub(folder, path.read_text(encoding="utf-8")))


def bases_of(path: Path) -> list[str]:
    """Paths of a config's bases; a recipe of this package is a file like any other."""
    return _bases(_parse(path))


def _bases(tree: ast.Module) -> list[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and "_base_" in _targets(statement):
            bases = eval(compile(ast.Expression(statement.value), "_base_", "eval"))  # as mmengine
            return [
                str(find_config(base)) if base.startswith(f"{SCOPE}::") else base
                for base in ([bases] if isinstance(bases, str) else bases)
            ]
    return []


def _assigned(tree: ast.Module) -> dict[str, ast.stmt]:
    """The names that a file sets, with the last statement that does."""
    return {name: statement for statement in tree.body for name in _targets(statement)}


def _local_names(path: Path) -> set[str]:
    tree = _parse(path)
    bases = [path.parent / base for base in _bases(tree) if "::" not in base]
    return set(_assigned(tree)).union(*map(_local_names, bases))


def _targets(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return set()
    nodes = [node for target in targets for node in ast.walk(target)]
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def unread_names(path: Path) -> set[str]:
    """Names that a file sets and neither it nor mmengine reads."""
    tree = _parse(path)
    loaded = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }
    return {n for n in _assigned(tree) if not n.startswith("_")} - loaded - FIRST_KEYS


def load_base(path: Path, base: str) -> Config:
    """A base that a file names, on its own."""
    if "::" not in base:
        return load(path.parent / base)
    with tempfile.TemporaryDirectory() as folder:  # mmengine finds it only as a base
        child = Path(folder, "child.py")
        child.write_text(f"_base_ = {base!r}\n", encoding="utf-8")
        return load(child)
