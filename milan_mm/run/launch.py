"""From a command line to a config that can run; shared by the train and test tools."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.logging import MessageHub

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.run.batch import apply_total_batch
from milan_mm.run.machine import check_precision, fit_to_machine, world_size
from milan_mm.run.own_data import set_own_data
from milan_mm.run.quick import make_quick

_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
# What the first process has to say before another one repeats it; a launcher ends all by then.
SECONDS_FOR_THE_FIRST = 10.0
# a misspelt field of a config reaches a constructor as a TypeError
_USER_ERRORS = (ValueError, FloatingPointError, TypeError, OSError)


def load_config(name: str, cfg_options: list[str] | None) -> Config:
    """Read a config by file or recipe name, and apply `key=value` options to it.

    Raises:
        MissingFileError: When there is no such config.
        UserError: When an option is not of the form key=value.
    """
    return load_config_and_data(name, cfg_options, None)[0]


def load_config_and_data(
    name: str, cfg_options: list[str] | None, data: str | None
) -> tuple[Config, list[str]]:
    """Read a config, let it use the folder of `--data`, then apply `key=value` options.

    The options come last: what a user writes out is never overwritten by what was found.

    Returns:
        The config, and lines about the folder, which are printed as well: they are the first that
        a user sees of a run.

    Raises:
        MissingFileError: When there is no such config, or the folder lacks something.
        UserError: When an option is not of the form key=value, or the folder does not fit.
    """
    cfg = load(name)
    for option in cfg_options or []:
        if "=" not in option:
            raise UserError(f"--cfg-options '{option}' is not of the form key=value")
    found = set_own_data(cfg, data) if data is not None else []
    if found and is_main_process():
        print("\n".join(found), flush=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    if cfg_options:
        cfg.merge_from_dict(parser.parse_args(["--cfg-options", *cfg_options]).cfg_options)
    return cfg, found


def set_work_dir(cfg: Config, work_dir: str | None, quick: bool, data: str | None = None) -> None:
    """Take the folder of the command line, or that of the config, or work_dirs/NAME.

    A run on own data without a folder of its own adds their name, a trial adds `-quick`.
    """
    default = cfg.get("work_dir") or str(Path("work_dirs", Path(cfg.filename).stem))
    if data is not None:
        default += f"-{Path(data).resolve().name}"
    cfg.work_dir = work_dir or default + ("-quick" if quick else "")


def set_amp(cfg: Config) -> None:
    """Train in bfloat16 autocast, unless the config chose a mixed precision already.

    Raises:
        UserError: When the config has an optimizer wrapper of its own kind.
    """
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    if "Amp" in wrapper or "BFloat16" in wrapper:
        return
    if wrapper != "OptimWrapper":
        raise UserError(f"--amp does not know optim_wrapper.type='{wrapper}': use 'OptimWrapper'")
    cfg.optim_wrapper.type = "milan_mm.BFloat16OptimWrapper"
    if cfg.get("default_scope") == "mmdet":  # NMS and RoIAlign know no bfloat16
        cfg.optim_wrapper.modules = [m for m in ("backbone", "neck") if m in cfg.model]


def set_compile(cfg: Config) -> None:
    """Let a hook compile the parts of a step before training."""
    hook = dict(type="milan_mm.CompileHook")
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]


def set_batch_per_gpu(cfg: Config, limit: int, quick: bool) -> None:
    """State how many images one process holds at once; the total batch stays what it is.

    Raises:
        UserError: When the config has no total batch, or the run takes no notice of it.
    """
    if limit < 1:
        raise UserError(f"--batch-per-gpu {limit}: give 1 or more images")
    if quick:
        raise UserError("--batch-per-gpu and --quick exclude each other: a trial has its own batch")
    if "total_batch" not in cfg:
        raise UserError(
            f"--batch-per-gpu: {cfg.filename} states no total_batch for its learning rate: set "
            "total_batch to gpus * batch of the original recipe"
        )
    cfg.train_dataloader.batch_size = limit


def fit_run(cfg: Config, launcher: str, quick: bool, training: bool = True) -> list[str]:
    """Fit a config to the number of processes, the devices and `--quick`, in place.

    Args:
        training: Also derive the batch of a process from the total batch of training.

    Returns:
        Lines for the log about what was changed or derived.
    """
    processes = world_size(launcher)
    notes = make_quick(cfg, processes) if quick else []
    if training:
        check_precision(cfg)
        if note := apply_total_batch(cfg, processes):
            notes.append(note)
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint")
    if checkpoint:
        checkpoint.setdefault("backend_args", dict(backend="atomic_local"))
    return notes + fit_to_machine(cfg, launcher)


@contextmanager
def user_errors(cfg: Config | None = None) -> Iterator[None]:
    """Turn mistakes of the user into one line and exit code 2; defects keep their traceback.

    A mistake is a `UserError`, which this package raises with value, limit and remedy. Before
    training starts it is also any other ValueError, a path with which the system finds fault, and
    a setting that a class does not know. A work directory that the run itself created is removed
    again when training had not started.

    Of several processes the first one speaks. The others wait until the launcher, which has seen it
    fail, ends them; one that is still there made the mistake alone, and says it.

    Args:
        cfg: Of the run, once its work directory is known.
    """
    existed = {path for path in _work_dir_parents(cfg) if path.exists()}
    try:
        yield
    except _USER_ERRORS as error:
        message = _message(error)
        if isinstance(error, TypeError) and "unexpected keyword argument" not in message:
            raise
        if isinstance(error, OSError):
            of_system = error.errno is not None and error.filename is not None
            if not of_system and not isinstance(error, _PATH_ERRORS):  # of a network, a socket, ...
                raise
            message = f"'{error.filename}': {error.strerror}" if of_system else message
        started = MessageHub.get_current_instance().get_info("loop_stage") is not None
        if started and not isinstance(error, UserError):
            raise
        if not started:
            _remove_new(cfg, existed)
        if not _is_first_of_launcher():
            time.sleep(SECONDS_FOR_THE_FIRST)
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(2)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process speaks for the run, known before the processes are connected."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


def _is_first_of_launcher() -> bool:
    """Whether this process is the first that its launcher watches; torchrun has one per machine."""
    if "RANK" in os.environ:
        return int(os.environ.get("LOCAL_RANK", 0)) == 0
    return is_main_process()


def _message(error: BaseException) -> str:
    """The error on one line; of one that a data-loading worker met, the last of its traceback.

    torch hands such an error on as one of the same class, with the traceback for its text.
    """
    text = str(error).rstrip()
    if isinstance(error, UserError) and "DataLoader worker" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _work_dir_parents(cfg: Config | None) -> list[Path]:
    """The work directory and the folders above it, inner first."""
    if cfg is None:
        return []
    path = Path(cfg.work_dir).resolve()
    return [path, *path.parents]


def _remove_new(cfg: Config | None, existed: set[Path]) -> None:
    """Remove a work directory that did not exist before, and parents that are empty now."""
    new = [path for path in _work_dir_parents(cfg) if path not in existed and path.exists()]
    if not new or not is_main_process():
        return
    shutil.rmtree(new[0], ignore_errors=True)
    for parent in new[1:]:
        if any(parent.iterdir()):
            return
        parent.rmdir()
