"""Fitting a config, written for GPUs and NCCL, to the machine at hand."""

import os

import torch
from mmengine.config import Config, ConfigDict

from milan_mm.errors import UserError
from milan_mm.run.config_nodes import config_nodes
from milan_mm.torch_private import has_fast_bfloat16

# how long a process waits for the others, which may validate or save
SECONDS_TO_ANSWER = 1800
_INIT_WORKER = "milan_mm.init_worker"


def fit_to_machine(cfg: Config, launcher: str) -> list[str]:
    """Choose backend, model wrapper, normalisation and precision for GPUs or CPUs, in place.

    Returns:
        Lines for the log about what differs from the config.

    Raises:
        UserError: When processes and GPUs do not fit together.
    """
    cfg.launcher = launcher
    if launcher != "none":  # torch's own 10 minutes are short for a validation by one process
        cfg.setdefault("env_cfg", ConfigDict()).setdefault("dist_cfg", ConfigDict())
        cfg.env_cfg.dist_cfg.setdefault("timeout", SECONDS_TO_ANSWER)
    _bind_workers(cfg)
    notes = _leave_modules(cfg)
    wants_bfloat16 = _precision(cfg) == "BFloat16OptimWrapper"
    if torch.cuda.is_available():
        _check_gpus(launcher)
        if wants_bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            notes.append(
                f"{torch.cuda.get_device_name()} has no units for bfloat16 and will be slow: try "
                "float16 by --cfg-options optim_wrapper.type=AmpOptimWrapper"
            )
        return notes
    if replaced := _replace_sync_bn(cfg.model):
        notes.append(f"no GPU: {replaced} SyncBN setting(s) replaced by BN")
    if not has_fast_bfloat16() and _leave_bfloat16(cfg):
        notes.append("no GPU, and this CPU does not multiply in bfloat16: float32 instead")
    if launcher == "none":
        return notes
    if launcher == "mpi":
        raise UserError(f"--launcher {launcher} needs GPUs: without them use tools/dist_train.sh")
    cfg.env_cfg.dist_cfg = ConfigDict(backend="gloo", timeout=cfg.env_cfg.dist_cfg.timeout)
    # the default wrapper names a GPU
    cfg.setdefault(
        "model_wrapper_cfg",
        ConfigDict(
            type="mmengine.MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        ),
    )
    return [*notes, "no GPU: processes communicate by gloo"]


def check_precision(cfg: Config) -> None:
    """Check that this machine can train in the precision of the config.

    Raises:
        UserError: For float16 without a GPU.
    """
    if _precision(cfg) == "AmpOptimWrapper" and not torch.cuda.is_available():
        raise UserError(
            "optim_wrapper.type=AmpOptimWrapper trains in float16, which needs a GPU: leave it "
            "out, or take OptimWrapper for float32"
        )


def _check_gpus(launcher: str) -> None:
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launcher == "pytorch" else 1
    if local_size > torch.cuda.device_count():
        raise UserError(
            f"{local_size} processes on a machine with {torch.cuda.device_count()} GPU(s): start "
            "at most one per GPU"
        )


def _bind_workers(cfg: Config) -> None:
    """Let data-loading workers end with their process, unless the config starts them its own way.

    mmengine draws a seed that the config leaves open, and passes it to its own function only.
    """
    seed = (cfg.get("randomness") or {}).get("seed")
    if seed is None:
        return
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        start = (cfg.get(loader) or {}).get("worker_init_fn", {})
        if cfg.get(loader) and start.get("type", _INIT_WORKER) == _INIT_WORKER:
            cfg[loader].worker_init_fn = ConfigDict(type=_INIT_WORKER, seed=seed)


def _precision(cfg: Config) -> str:
    """Kind of the optimizer wrapper, without its scope."""
    return (cfg.get("optim_wrapper") or {}).get("type", "OptimWrapper").rpartition(".")[2]


def _leave_bfloat16(cfg: Config) -> bool:
    """Train in float32; returns whether the config wanted bfloat16."""
    if _precision(cfg) != "BFloat16OptimWrapper":
        return False
    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.pop("modules", None)
    return True


def _leave_modules(cfg: Config) -> list[str]:
    """Drop the recipe's `modules` if the user chose a wrapper that does not support it."""
    kind = _precision(cfg)
    if kind == "BFloat16OptimWrapper" or "modules" not in (cfg.get("optim_wrapper") or {}):
        return []
    del cfg.optim_wrapper["modules"]
    return [f"optim_wrapper.modules is for bfloat16 only: {kind} takes the whole model"]


def _replace_sync_bn(model: ConfigDict) -> int:
    """Replace SyncBN, which needs a GPU, anywhere in a model; returns how often."""
    found = [node for _, node in config_nodes(model) if node.get("type") == "SyncBN"]
    for node in found:
        node["type"] = "BN"
    return len(found)
