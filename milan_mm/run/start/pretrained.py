"""Weights that a config names itself fill all of a model, or the run does not start.

mmengine has two ways to start from a file, `load_from=FILE` and, for a part of the model,
`init_cfg=dict(type="Pretrained", checkpoint=FILE)`. Both load what fits and go on with the rest
random, after a warning among the first thousand lines of the log.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn

from milan_mm.engine.checkpoints import safe_loading
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.errors import UserError
from milan_mm.registry import MODELS
from milan_mm.run.start.fitting import check_fit
from milan_mm.weights.finding import some

# Of a config: patterns of names that a file named by `init_cfg` need not hold.
FRESH = "fresh_tensors"
# Batches that batch norm has seen; it computes nothing from them.
_COUNTER = "num_batches_tracked"


def read_tensors(source: str, prefix: str | None = None) -> dict[str, Tensor]:
    """The tensors that mmengine would load from a file or an address.

    Args:
        source: A path, or an address of a known scheme.
        prefix: Of the names to take, which is removed.

    Raises:
        MissingFileError, UserError: When nothing can be read, or no name has the prefix.
    """
    with safe_loading():
        content = CheckpointLoader.load_checkpoint(source, map_location="cpu", logger="silent")
    tensors = content.get("state_dict", content)
    if not isinstance(tensors, Mapping):
        raise UserError(f"{source}: its 'state_dict' is a {type(tensors).__name__}, not a dict")
    if prefix is None:
        return {re.sub(r"^module\.", "", str(name)): t for name, t in tensors.items()}
    start = prefix.rstrip(".") + "."
    taken = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    if not taken:
        first = some(list(dict.fromkeys(f"{name.partition('.')[0]}." for name in tensors)))
        raise UserError(
            f"{source} has no tensor with the prefix '{start}': its names begin {first}"
        )
    return taken


def check_whole(source: str, found: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse a file for `load_from` that is not of this very model.

    Raises:
        UserError: With the ways to start from a part of a file.
    """
    wanted = {
        name: tensor
        for name, tensor in _unwrapped(model).state_dict().items()
        if name in found or not name.endswith(_COUNTER)
    }
    try:
        check_fit(source, found, wanted)
    except UserError as error:
        raise UserError(
            f"load_from: {error}; to start from its encoder alone pass --weights FILE, from a "
            "checkpoint of other classes --init-from FILE"
        ) from None


class StrictInit(Hook):
    """Watches the parts of a model that a config starts from files, until training begins.

    It uses torch's own hooks on those parts, so it sees what is loaded whoever loads it, and by
    whatever names: some backbones rename or resize tensors first. A part may find more in its file
    than it takes, such as the head of a classifier, but not more blocks of a kind that it has.

    Args:
        model: As built, not yet initialised.
        fresh: Patterns of tensors that may start at random, by their names in the model.

    Raises:
        MissingFileError, UserError: When a file cannot be read, or has no name with its prefix.
    """

    def __init__(self, model: nn.Module, fresh: Sequence[str] = ()) -> None:
        self.parts = [_Part(*found, fresh) for found in _pretrained_parts(_unwrapped(model))]
        for part in self.parts:
            part.try_early()

    def before_train(self, runner: Runner) -> None:
        """Refuse a file that was named and never loaded, and stop watching."""
        for part in self.parts:
            part.finish()


def watch(runner: Runner, cfg: Config) -> None:
    """Add a `StrictInit` to a run that needs one.

    Raises:
        MissingFileError, UserError: See `StrictInit`.
    """
    hook = StrictInit(runner.model, cfg.get(FRESH) or ())
    if hook.parts:
        runner.register_hook(hook, priority="HIGHEST")


class _Part:
    """A part of a model that starts from a file."""

    def __init__(
        self, name: str, module: nn.Module, settings: Mapping[str, Any], fresh: Sequence[str]
    ) -> None:
        self.name, self.module, self.fresh = name, module, tuple(fresh)
        self.source: str = settings["checkpoint"]
        self.prefix: str | None = settings.get("prefix")
        self.containers = {
            n for n, m in module.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential))
        }
        self.total = sum(not name.endswith(_COUNTER) for name in module.state_dict())
        self.was_loaded = False
        self._errors: list[str] | None = None  # of the load that is going on
        self._handles = [
            module.register_load_state_dict_pre_hook(self._before),
            module.register_load_state_dict_post_hook(self._after),
        ]

    def try_early(self) -> None:
        """Load once before the data are read, unless the part loads in a way of its own."""
        tensors = read_tensors(self.source, self.prefix)
        if getattr(type(self.module), "init_weights", None) is BaseModule.init_weights:
            load_state_dict(self.module, tensors, logger="silent")
        self.was_loaded = False

    def finish(self) -> None:
        for handle in self._handles:
            handle.remove()
        if not self.was_loaded:
            raise UserError(
                f"{self._place} names {self.source}, and nothing was loaded: the module around it "
                "does not initialise its parts; set init_cfg one level higher, with a prefix"
            )

    @property
    def _place(self) -> str:
        return f"model.{self.name}.init_cfg" if self.name else "model.init_cfg"

    def _before(
        self,
        module: nn.Module,
        state_dict: Mapping[str, Any],
        prefix: str,
        metadata: Mapping[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        self._errors = errors if prefix == "" else None  # else a part of a larger load

    def _after(self, module: nn.Module, keys: Any) -> None:
        if self._errors is None:
            return
        self.was_loaded = True
        missing = [name for name in keys.missing_keys if not self._may_miss(name)]
        more = [name for name in keys.unexpected_keys if self._is_further_block(name)]
        if missing:
            left = f"leaves {len(missing)} of {self.total} tensors at random: {some(missing)}"
        elif self._errors:  # of shapes
            left = f"has tensors of other shapes: {' '.join(self._errors[0].split())}"
        elif more:
            left = f"has more blocks than the model: {some(more)}"
        else:
            return
        raise UserError(f"{self._place}: {self.source} {left}; {self._remedy}")

    @property
    def _remedy(self) -> str:
        if isinstance(self.module, MODELS.get("milan_mm.PlainViT")):
            return "pass it as --weights FILE, which knows the names of other systems"
        return (
            f"name a file of this {type(self.module).__name__}, or the prefix of one in a larger "
            f"file; what is meant to start afresh goes into {FRESH}=['PATTERN']"
        )

    def _may_miss(self, name: str) -> bool:
        whole = f"{self.name}.{name}".lstrip(".")
        return name.endswith(_COUNTER) or any(fnmatchcase(whole, p) for p in self.fresh)

    def _is_further_block(self, name: str) -> bool:
        """'layers.12.ln1.weight' of a model whose `layers` end at 11."""
        parts = name.split(".")
        return any(
            parts[i].isdigit() and ".".join(parts[:i]) in self.containers
            for i in range(1, len(parts) - 1)
        )


def _pretrained_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, Mapping[str, Any]]]:
    for name, module in model.named_modules():
        init_cfg = getattr(module, "init_cfg", None) or ()
        for settings in [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg:
            if _is_pretrained(settings):
                yield name, module, settings
            override = settings.get("override") or ()
            for inner in [override] if isinstance(override, Mapping) else override:
                if _is_pretrained(inner):
                    part = inner["name"]
                    yield f"{name}.{part}".lstrip("."), getattr(module, part), inner


def _is_pretrained(settings: Mapping[str, Any]) -> bool:
    kind = settings.get("type")
    return kind is PretrainedInit or str(kind).rpartition(".")[2] == "Pretrained"


def _unwrapped(model: nn.Module) -> nn.Module:
    inner: Any = unwrapped(model)
    return inner
