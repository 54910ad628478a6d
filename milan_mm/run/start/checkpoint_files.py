"""The training checkpoints of a work directory: the newest whole one, and what a run would replace.

mmengine follows the file `last_checkpoint` alone, which holds a path of the machine that wrote it,
may be empty after a kill, and may name a file that is damaged or gone.
"""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from milan_mm.engine.hooks.saving import LAST
from milan_mm.errors import UserError
from milan_mm.files import remove_leftovers
from milan_mm.text import shorten_list
from milan_mm.weights.config_text import parse_config
from milan_mm.weights.reading import read_checkpoint, read_meta
from milan_mm.weights.record import KEY

_TEMPLATES = ("epoch_{}.pth", "iter_{}.pth")
_BEST = "best_*.pth"
# What versions before 0.4 left when they were killed while saving.
_OLD_LEFTOVER = re.compile(r"\.\w+\.pth\.[a-z0-9_]{8}")
_SECONDS_OF_A_SAVE = 3600.0


@dataclass(frozen=True)
class Checkpoint:
    """A file of a training, known from its `meta` alone.

    Attributes:
        path: Of the file.
        updates: Steps of the optimizer until then; -1 where the file cannot be read.
        time: When it was saved, as text that can be compared; empty where unknown.
    """

    path: Path
    updates: int
    time: str


def newest_whole(cfg: Config, folder: Path | None = None) -> tuple[str, dict, list[str]] | None:
    """Find the checkpoint that a run goes on from.

    It is the one that `last_checkpoint` names, wherever the folder has moved to, unless a later one
    was saved after it. A damaged one is passed over.

    Args:
        cfg: Of the run, for its work directory and the names of its checkpoints.
        folder: Another work directory to look into.

    Returns:
        Its path, its content (see `read_checkpoint`) and lines for the log; None if there is none.

    Raises:
        UserError: When there are checkpoints, and none of them is whole.
    """
    work_dir = folder or Path(cfg.work_dir)
    found = list_checkpoints(cfg, folder)
    if not found:
        return None
    order, faults = _newest_first(work_dir, found)
    for checkpoint in order:
        try:
            content = read_checkpoint(checkpoint.path)
        except UserError as error:
            faults.append(str(error))
            continue
        note = f"{'; '.join(faults)}: the newest whole checkpoint is {checkpoint.path}"
        return str(checkpoint.path), content, [note] if faults else []
    raise UserError(
        f"'{work_dir}' holds {len(found)} checkpoint(s) and none that is whole: {faults[0]}: "
        "choose another --work-dir to start from the beginning"
    )


def newest(work_dir: Path) -> Path | None:
    """The newest checkpoint of a work directory by its `meta`; None without any."""
    order, _ = _newest_first(work_dir, list_checkpoints_in(work_dir))
    return order[0].path if order else None


def list_checkpoints_in(work_dir: Path) -> list[Checkpoint]:
    """Those of a folder whose config is not at hand, under mmengine's usual names."""
    return list_checkpoints(Config(dict(work_dir=str(work_dir))))


def list_checkpoints(cfg: Config, folder: Path | None = None) -> list[Checkpoint]:
    """The training checkpoints of a work directory, in the order of their updates."""
    checkpoints = folder or folder_of(cfg)
    found = [_checkpoint(path) for path in _files(cfg, checkpoints) if path.is_file()]
    return sorted(found, key=lambda checkpoint: checkpoint.updates)


def remove_leftovers_of_run(cfg: Config) -> None:
    """Remove what killed runs left behind while they wrote; never what is being written."""
    work_dir, checkpoints = Path(cfg.work_dir), folder_of(cfg)
    starts = [path for path in work_dir.glob("*") if path.is_dir()] if work_dir.is_dir() else []
    for folder in dict.fromkeys([work_dir, checkpoints, *starts]):
        remove_leftovers(folder)
    for path in checkpoints.glob(".*.pth.*"):
        with suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if _OLD_LEFTOVER.fullmatch(path.name) and age > _SECONDS_OF_A_SAVE:
                path.unlink()


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that `last_checkpoint` names, wherever the folder has moved to.

    Raises:
        OSError: When nothing was saved.
    """
    text = Path((work_dir / LAST).read_text().strip())
    moved = work_dir / text.name
    return moved if moved.is_file() else work_dir / text


def check_nothing_is_replaced(cfg: Config, allowed: int = 0) -> None:
    """Refuse a new run in a folder that holds the checkpoints of another one.

    Args:
        allowed: A run of at most so many updates may be replaced: a trial's.

    Raises:
        UserError: Naming the checkpoints.
    """
    folder = folder_of(cfg)
    held = [c.path for c in list_checkpoints(cfg) if not 0 <= c.updates <= allowed]
    held += [path for path in sorted(folder.glob(_BEST)) if not allowed]
    if held:
        raise UserError(
            f"'{folder}' holds {len(held)} checkpoint(s) of an earlier run, "
            f"{shorten_list([path.name for path in held], 3)}: go on with it by --resume, or "
            "choose another --work-dir"
        )


def check_nothing_later(cfg: Config, source: Path, updates: int) -> None:
    """Refuse to go on from an earlier checkpoint where the later ones would be replaced.

    Args:
        source: The checkpoint to resume from. updates: Its updates.

    Raises:
        UserError: Naming the later ones.
    """
    later = [c.path for c in list_checkpoints(cfg) if c.updates > updates]
    if later:
        raise UserError(
            f"'{folder_of(cfg)}' holds {len(later)} checkpoint(s) later than {source}, "
            f"{shorten_list([path.name for path in later], 3)}, which would be replaced: choose "
            "another --work-dir"
        )


def updates_of(meta: Mapping[str, Any]) -> int:
    """Steps of the optimizer until a checkpoint was saved; -1 where `meta` does not say.

    A step that was under way, with a part of its batch done, does not count: it is repeated.
    """
    iteration = meta.get("iter")
    return iteration // accumulation_of(meta) if type(iteration) is int else -1


def accumulation_of(meta: Mapping[str, Any]) -> int:
    """Iterations per update of the run that saved a checkpoint, as its record or its config says.

    Args:
        meta: Of a checkpoint; whoever wrote it need not be trusted.
    """
    places = [(meta.get(KEY), "split", "accumulation")]
    if isinstance(text := meta.get("cfg"), str):
        config = parse_config(text)
        if "total_batch" in config:  # else the run counted in iterations
            places.append((config, "optim_wrapper", "accumulative_counts"))
    for node, section, name in places:
        part = node.get(section) if isinstance(node, Mapping) else None
        value = part.get(name) if isinstance(part, Mapping) else None
        if type(value) is int and value > 0:
            return value
    return 1


def folder_of(cfg: Config) -> Path:
    """Where mmengine's CheckpointHook saves: in the work directory, or in `out_dir` by its name."""
    work_dir, out_dir = os.path.abspath(cfg.work_dir), _hook(cfg).get("out_dir")
    if out_dir in (None, work_dir):
        return Path(cfg.work_dir)
    return Path(out_dir, os.path.basename(work_dir))


def _hook(cfg: Config) -> Mapping[str, Any]:
    return (cfg.get("default_hooks") or {}).get("checkpoint") or {}


def _files(cfg: Config, folder: Path) -> Iterator[Path]:
    hook = _hook(cfg)
    templates = dict.fromkeys([hook.get("filename_tmpl") or _TEMPLATES[0], *_TEMPLATES])
    patterns = [re.escape(t).replace(re.escape("{}"), r"\d+") for t in templates]
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if any(re.fullmatch(pattern, path.name) for pattern in patterns):
            yield path


def _checkpoint(path: Path) -> Checkpoint:
    meta = read_meta(path)
    return Checkpoint(path, updates_of(meta), str(meta.get("time", "")))


def _newest_first(work_dir: Path, found: list[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
    """The whole ones, as far as `meta` shows, and what is wrong with the folder."""
    whole = [c for c in found if c.updates >= 0]
    faults = [f"{c.path} is damaged or not a training checkpoint" for c in found if c not in whole]
    named, fault = _named(work_dir, whole)
    order = sorted(whole, key=lambda c: (c.updates, c.time), reverse=True)
    if not named:
        return order, faults or [fault]
    later = [c for c in order if c.updates > named.updates and c.time >= named.time]
    return [*later, named, *(c for c in order if c != named and c not in later)], faults


def _named(work_dir: Path, whole: list[Checkpoint]) -> tuple[Checkpoint | None, str]:
    """What `last_checkpoint` names, by its last part; or what is wrong with that file."""
    file = work_dir / LAST
    if not file.is_file():
        return None, f"'{file}' is missing"
    if not (text := file.read_text(errors="replace").strip()):
        return None, f"'{file}' is empty"
    for checkpoint in whole:
        if checkpoint.path.name == Path(text).name:
            return checkpoint, ""
    return None, f"'{file}' names {text}, which is not a whole checkpoint there"
