"""`--cfg-options`: names of a recipe that others are derived from, and fields written out.

Both act or are refused. Names come first, so that an option for what is derived (`--lr`) and a
field that is written out have the last word.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from milan_mm.errors import UserError
from milan_mm.run.config_nodes import views_of_test
from milan_mm.run.fields.keys import check_keys, check_new_fields
from milan_mm.run.fields.names import check_file_names, check_first_key, names_of, set_names
from milan_mm.run.fields.source import can_evaluate


def follow_names(cfg: Config, cfg_options: Sequence[str]) -> list[str]:
    """Set the names of a recipe that the user gave, and what is derived from them, in place.

    Args:
        cfg_options: As 'key=value'.

    Returns:
        Lines for the log about what follows.

    Raises:
        UserError: For a name that would change nothing, in the options or in the config's file.
    """
    check_file_names(cfg)
    fields = _parse(cfg_options)
    for name, value in fields.items():
        check_first_key(cfg, name, f"{name}={value!r}")
    named, _ = _divide(cfg, fields)
    return set_names(cfg, named, "--cfg-options") if named else []


def set_written_out(cfg: Config, cfg_options: Sequence[str]) -> None:
    """Set the other fields, in place, and check that something reads every key of the config.

    Raises:
        UserError: For a key that nothing reads.
    """
    _, fields = _divide(cfg, _parse(cfg_options))
    check_new_fields(cfg, fields)
    try:
        cfg.merge_from_dict(fields)
    except (AttributeError, LookupError, TypeError) as error:  # no such part, or one without parts
        reason = error.args[0]
        if isinstance(error, AttributeError):
            reason = "mmengine sets no single number of a list, give the whole list"
        shown = " ".join(f"{name}={value!r}" for name, value in fields.items())
        raise UserError(f"--cfg-options {shown} cannot be set: {reason}") from None
    check_keys(cfg)
    _check_views(cfg, fields)


def _check_views(cfg: Config, fields: Iterable[str]) -> None:
    """Refuse to prepare the images of a test otherwise, where it shows several views of them."""
    for name in fields:
        if name.startswith("test_dataloader.") and ".pipeline" in name and views_of_test(cfg):
            raise UserError(
                f"--cfg-options {name} has no effect: the test shows the views of tta_pipeline; "
                "set that, or tta_model=None for a single view"
            )


def _divide(cfg: Config, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Names of the file, and all others."""
    names = names_of(cfg) if can_evaluate(cfg) else set()
    named = {name: value for name, value in fields.items() if name.partition(".")[0] in names}
    return named, {name: value for name, value in fields.items() if name not in named}


def _parse(cfg_options: Sequence[str]) -> dict[str, Any]:
    for option in cfg_options:
        if "=" not in option:
            raise UserError(f"--cfg-options '{option}' is not of the form key=value")
        if option.partition("=")[0] == "launcher":
            raise UserError(f"--cfg-options {option} would be overridden: use --launcher")
    if not cfg_options:
        return {}
    parser = argparse.ArgumentParser()
    parser.add_argument("fields", nargs="+", action=DictAction)
    try:
        return dict(parser.parse_args([*cfg_options]).fields)
    except AssertionError as error:  # of brackets
        raise UserError(f"--cfg-options {' '.join(cfg_options)}: {error}") from None
