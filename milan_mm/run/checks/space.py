"""Room for checkpoints, looked for before a run instead of at its first save."""

import inspect

import torch
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from milan_mm.engine.unwrapping import unwrapped
from milan_mm.errors import UserError
from milan_mm.files import free_bytes
from milan_mm.run.schedule.plan import Plan, checkpoint_hook
from milan_mm.run.start.checkpoint_files import folder_of, list_checkpoints
from milan_mm.text import bytes_of


def check_space(runner: Runner, plan: Plan) -> list[str]:
    """Compare what the run will save with the free space of the disk, see `free_bytes`.

    Args:
        plan: Of the run.

    Returns:
        Warnings for the log: one when all that it keeps will not fit.

    Raises:
        UserError: When there is no room for a single one.
    """
    hook = checkpoint_hook(runner)
    if hook is None or not plan.checkpoints:
        return []
    if "://" in str(hook.out_dir):
        return []
    folder = folder_of(runner.cfg)
    free = free_bytes(folder)
    size = checkpoint_size(runner, bool(hook.save_optimizer))
    if free < size:
        raise UserError(
            f"'{folder}' has {bytes_of(free)} free, and a checkpoint needs {bytes_of(size)}: make "
            "room, or choose another --work-dir"
        )
    # one more than are kept, for an old one goes when the new one is there
    number = min(plan.checkpoints, (plan.kept or plan.checkpoints) + 1)
    if free >= (number - len(list_checkpoints(runner.cfg))) * size:
        return []
    keep = f"keeps {plan.kept}" if plan.kept else f"saves {plan.checkpoints}"
    return [
        f"'{folder}' has {bytes_of(free)} free: the run {keep} checkpoints of "
        f"{bytes_of(size)}, {bytes_of(number * size)} at a time; set "
        "default_hooks.checkpoint.max_keep_ckpts to a smaller number, or make room"
    ]


def checkpoint_size(runner: Runner, with_optimizer: bool) -> int:
    """Bytes of a checkpoint, within some percent.

    The optimizer has no state before its first step: what it will have is known from its kind.
    """
    model = unwrapped(runner.model)
    tensors = filter(torch.is_tensor, model.state_dict().values())
    size = sum(t.numel() * t.element_size() for t in tensors)
    settings = (runner.cfg.get("optim_wrapper") or {}).get("optimizer")
    if with_optimizer and settings:
        trained = [p for p in model.parameters() if p.requires_grad]
        copies = _copies(settings)
        size += copies * sum(p.numel() * p.element_size() for p in trained)
    return size


def _copies(settings: dict) -> int:
    """Tensors of a parameter's size that an optimizer keeps for it."""
    kind = settings["type"]
    if isinstance(kind, str):
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:  # as the runner builds it
            kind = registry.get(kind)
    defaults = {n: p.default for n, p in inspect.signature(kind).parameters.items()}
    if "betas" in defaults:
        if not kind.__module__.startswith("torch."):
            return 0  # nobody knows: Lion has one, those of 8 bits less
        # of Adam and its kin: two means, and the largest of one
        return 2 + bool(settings.get("amsgrad"))
    return bool(settings.get("momentum", defaults.get("momentum")))
