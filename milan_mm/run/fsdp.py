"""`--fsdp`: a training whose model is spread over the processes, see `milan_mm.engine.sharding`."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS

from milan_mm.errors import UserError

RUNNER, WRAPPER = "milan_mm.ShardedRunner", "milan_mm.FullySharded"
_DEFAULT_WRAPPER = "MMDistributedDataParallel"


def spread_model(cfg: Config, wanted: bool, launcher: str) -> list[str]:
    """Let a config train by FSDP, in place, if the user or the config itself asks for it.

    Args:
        wanted: By `--fsdp`.
        launcher: Of the processes; 'none' is one process.

    Returns:
        Lines for the log.

    Raises:
        UserError: Where there is one process only, or something that needs the model whole.
    """
    wrapper = cfg.get("model_wrapper_cfg") or ConfigDict()
    kind = str(wrapper.get("type", _DEFAULT_WRAPPER))
    if not (wanted or cfg.get("runner_type") == RUNNER or _is(kind, WRAPPER)):
        return []
    if launcher == "none":
        if wanted:
            raise UserError(
                "--fsdp spreads the model over processes, and this is a single one: start the run "
                "by tools/dist_train.sh CONFIG GPUS --fsdp, or by tools/slurm_train.sh"
            )
        cfg.pop("runner_type", None)
        cfg.pop("model_wrapper_cfg", None)
        return ["one process: the model is not spread, whatever runner_type says"]
    for reason in _obstacles(cfg, kind):
        raise UserError(f"--fsdp: {reason}")
    cfg.runner_type = RUNNER
    blocks = dict(blocks=wrapper.blocks) if "blocks" in wrapper else {}
    cfg.model_wrapper_cfg = ConfigDict(type=WRAPPER, **blocks)
    return []


def _obstacles(cfg: Config, kind: str) -> Iterator[str]:
    if not (_is(kind, WRAPPER) or _is(kind, _DEFAULT_WRAPPER)):
        yield (
            f"the config wraps the model by model_wrapper_cfg.type='{kind}', which takes its place:"
            " leave out one of the two"
        )
    precision = (cfg.get("optim_wrapper") or {}).get("type", "OptimWrapper")
    if _is(precision, "AmpOptimWrapper"):
        yield (
            "optim_wrapper.type='AmpOptimWrapper' scales the loss for float16 by what one process "
            "sees: take 'milan_mm.BFloat16OptimWrapper', or leave out --fsdp"
        )
    for hook in cfg.get("custom_hooks") or []:
        if _averages_weights(hook.get("type"), cfg.get("default_scope")):
            yield (
                f"{_name(hook.type)} keeps a second, whole copy of the model and writes it into "
                "checkpoints by one process: leave it or --fsdp out"
            )


def _averages_weights(kind: Any, scope: str | None) -> bool:
    """Whether it is mmengine's EMAHook or derived from it, as mmpretrain's and those of users."""
    if isinstance(kind, str):
        with HOOKS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    return isinstance(kind, type) and issubclass(kind, EMAHook)


def _name(kind: Any) -> str:
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def _is(kind: str, name: str) -> bool:
    return kind.rpartition(".")[2] == name.rpartition(".")[2]
