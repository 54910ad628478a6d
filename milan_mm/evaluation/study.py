"""What studies have in common: a folder with settings, counts that are checked, lengths.

A study is a grid of trainings whose table compares its parts: the ablation, the proof on
photographs.
"""

import hashlib
import json
import shutil
from pathlib import Path

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.files import write_whole
from milan_mm.run.checks.schedule import FEWEST_UPDATES

SETTINGS = "settings.json"


def check_count(count: int, cfg: Config, what: str, remedy: str) -> None:
    """Refuse fewer images than a batch.

    Raises:
        UserError: With both numbers.
    """
    if count < cfg.total_batch:
        raise UserError(f"{count} {what}, a batch has {cfg.total_batch}: {remedy}")


def check_updates(updates: int, option: str) -> None:
    """Refuse a training of next to no updates, which each run would refuse later.

    Raises:
        UserError: With both numbers.
    """
    if updates < FEWEST_UPDATES:
        raise UserError(f"{updates} updates, fewer than {FEWEST_UPDATES}: add images or {option} N")


def iterations(cfg: Config, num_images: int) -> int:
    """Iterations of a whole run."""
    return cfg.train_cfg.max_epochs * (num_images // cfg.total_batch)


def fingerprint(*recipes: Config) -> str:
    """Hash of recipes, so that results of an edited one are not mixed with others."""
    text = json.dumps([recipe.to_dict() for recipe in recipes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def enter_folder(out: Path, settings: dict, fresh: bool, what: str) -> None:
    """Make the results folder, or go on in one with equal settings.

    A setting that is not there yet, such as that of a part that was not run, is added.

    Args:
        fresh: Remove what is there.
        what: The study, e.g. 'an ablation'.

    Raises:
        UserError: When its runs had other settings, or when it holds something else.
    """
    file = out / SETTINGS
    if out.exists() and not file.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' holds something other than {what}: choose another --out")
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    found = json.loads(file.read_text()) if file.is_file() else {}
    for name, value in settings.items():
        if found.get(name, value) != value:
            raise UserError(
                f"{name} is {value}, the runs in '{out}' had {found[name]}: choose another "
                "--out, or start over with --fresh"
            )
    write_whole(file, (json.dumps(found | settings, indent=1) + "\n").encode())
