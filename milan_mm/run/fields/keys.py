"""Keys of a config that nothing reads: refused with the nearest spelling, before anything is built.

mmengine ignores unknown keys at the top of a config, and hands all others to constructors, some of
which run after hours. What is read is known beforehand: by the arguments of `Runner`, of the data
loader, and of the registered classes.
"""

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, cast

from mmengine import registry as root
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner
from mmengine.runner.loops import TestLoop, ValLoop
from mmengine.utils import import_modules_from_strings
from mmengine.utils.dl_utils import set_multi_processing
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from milan_mm.errors import UserError
from milan_mm.run.fields.signatures import arguments_of

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# What mmengine reads of a config besides the arguments of `Runner`, and what this package does.
_READ_BESIDES = (
    "custom_imports",
    "find_unused_parameters",
    "fresh_tensors",
    "model_wrapper_cfg",
    "origin",
    "runner_type",
    "sync_bn",
    "total_batch",
    "tta_model",
    "tta_pipeline",
)
# What `runner_type` may be: mmengine's own, and that of `--fsdp`.
RUNNERS = ("Runner", "mmengine.Runner", "milan_mm.ShardedRunner")
FIRST_KEYS = frozenset(inspect.signature(Runner).parameters) - {"cfg"} | set(_READ_BESIDES)
# `Runner.build_dataloader` takes these out, or makes objects of them.
_OF_LOADERS = {"num_batch_per_epoch", "disable_subprocess_warning"}
# mmengine's own constructor reads these by `get`.
_CONSTRUCTOR = "DefaultOptimWrapperConstructor"
_PARAMWISE = {
    "bias_decay_mult",
    "bias_lr_mult",
    "bypass_duplicate",
    "custom_keys",
    "dcn_offset_lr_mult",
    "dwconv_decay_mult",
    "flat_decay_mult",
    "norm_decay_mult",
}
# Of a model: built by helpers that take out keys of their own.
_OTHER_BUILDERS = ("_cfg", "_cfgs", "dcn", "plugins", "stages", "policies")
_CUTOFF = 0.6  # likeness of a spelling worth a hint, 1 for equal ones
SAME = 0.85  # likeness of a name that is surely a misspelling


def check_keys(cfg: Config) -> None:
    """Check that something reads every key of a config.

    Left to its constructor is what no signature shows: arguments of functions that take any, and
    dicts without `type` inside a model. Names at the top of the file are checked elsewhere, see
    `milan_mm.run.fields.names`.

    Raises:
        UserError: For a key that nothing reads, a type that nobody registered, and for a runner
            other than mmengine's `Runner`.
    """
    if cfg.get("runner_type", "Runner") not in RUNNERS or "strategy" in cfg:
        raise UserError(
            f"{cfg.filename} asks for runner_type='{cfg.get('runner_type', 'Runner')}'"
            + (f" and strategy={_kind(cfg.strategy)}" if "strategy" in cfg else "")
            + ": these tools train with mmengine's Runner, on several processes with "
            "DistributedDataParallel or, by --fsdp, with torch's FSDP2: delete runner_type and "
            "strategy, and use tools/dist_train.sh or --launcher"
        )
    _Check(cfg.get("default_scope") or "mmengine").config(cfg)


def check_new_fields(cfg: Config, fields: Iterable[str]) -> None:
    """Check that no option makes a new field that is nearly one beside it.

    That finds misspelt keys where no signature shows which are read: of `model.test_cfg`, say.

    Args:
        cfg: Before the options are applied.
        fields: Their dotted names.

    Raises:
        UserError: With the field beside it.
    """
    for field in fields:
        node: Any = cfg
        for key in field.split("."):
            if isinstance(node, (list, tuple)) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, (dict, Config)) and key in node:
                node = node[key]
            elif not isinstance(node, (dict, Config)) or "type" in node:
                break  # of a class, whose signature decides
            elif near := nearest(key, node, SAME):
                raise UserError(
                    f"--cfg-options {field}: there is '{near}' and no '{key}'; did you mean that?"
                )
            else:
                break


def nearest(name: str, known: Iterable[str], cutoff: float = _CUTOFF) -> str | None:
    """The most similar of some names; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(set(known)), 1, cutoff)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the nearest of some names, or nothing."""
    found = nearest(name, known)
    return f"; did you mean '{found}'?" if found else ""


class _Check:
    """Walks over a config by what mmengine builds of each part.

    Args:
        scope: Where types are looked up that name none.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope

    def config(self, cfg: Config) -> None:
        for loader in LOADERS:
            self._loader(cfg.get(loader), loader)
        for key in ("val_evaluator", "test_evaluator"):
            self._evaluator(cfg.get(key), key)
        self._loops(cfg)
        self._optim_wrapper(cfg.get("optim_wrapper"), "optim_wrapper")
        self._schedulers(cfg.get("param_scheduler"), "param_scheduler")
        self._hooks(cfg)
        if visualizer := cfg.get("visualizer"):
            self._typed(visualizer, "visualizer", root.VISUALIZERS, "Visualizer")
            for name, backend in _items(visualizer.get("vis_backends"), "visualizer.vis_backends"):
                self._typed(backend, name, root.VISBACKENDS)
        if wrapper := cfg.get("model_wrapper_cfg"):
            kind = "MMDistributedDataParallel"
            self._typed(wrapper, "model_wrapper_cfg", root.MODEL_WRAPPERS, kind)
        self._plain(cfg)
        for key in ("model", "tta_model"):
            if isinstance(cfg.get(key), dict):
                self._model(cfg[key], key, self.scope)

    def _loader(self, loader: Any, name: str) -> None:
        if not isinstance(loader, dict):
            return
        known = arguments_of(DataLoader)[0] | _OF_LOADERS
        _refuse(loader, name, known, "a data loader")
        for key in ("sampler", "batch_sampler"):
            self._typed(loader.get(key), f"{name}.{key}", root.DATA_SAMPLERS)
        self._dataset(loader.get("dataset"), f"{name}.dataset")

    def _dataset(self, dataset: Any, name: str) -> None:
        if not isinstance(dataset, dict):
            return
        self._typed(dataset, name, root.DATASETS)
        self._dataset(dataset.get("dataset"), f"{name}.dataset")
        for inner, part in _items(dataset.get("datasets"), f"{name}.datasets"):
            self._dataset(part, inner)
        for inner, transform in _items(dataset.get("pipeline"), f"{name}.pipeline"):
            self._typed(transform, inner, root.TRANSFORMS)
            if isinstance(transform, dict):
                self._nested(transform.get("transforms"), f"{inner}.transforms")

    def _nested(self, node: Any, name: str) -> None:
        """Transforms inside another, which may be those of another library."""
        for inner, part in _items(node, name):
            if isinstance(part, (list, tuple)):
                self._nested(part, inner)
            elif isinstance(part, dict) and _find(root.TRANSFORMS, part.get("type"), self.scope):
                self._typed(part, inner, root.TRANSFORMS)

    def _evaluator(self, node: Any, name: str) -> None:
        if isinstance(node, dict) and "metrics" in node:
            self._typed(node, name, root.EVALUATOR, Evaluator)
            node, name = node["metrics"], f"{name}.metrics"
        for inner, metric in _items(node, name):
            self._typed(metric, inner, root.METRICS)

    def _loops(self, cfg: Config) -> None:
        train = cfg.get("train_cfg") or {}
        by_epoch = train.get("by_epoch", "max_epochs" in train)
        default = EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop
        self._typed(train, "train_cfg", root.LOOPS, default, {"by_epoch"})
        self._typed(cfg.get("val_cfg"), "val_cfg", root.LOOPS, ValLoop)
        self._typed(cfg.get("test_cfg"), "test_cfg", root.LOOPS, TestLoop)

    def _optim_wrapper(self, node: Any, name: str) -> None:
        if not isinstance(node, dict):
            return
        if "optimizer" not in node:  # one wrapper for each of several optimizers
            return
        besides = {"constructor", "paramwise_cfg"}
        self._typed(node, name, root.OPTIM_WRAPPERS, "OptimWrapper", besides)
        self._typed(node["optimizer"], f"{name}.optimizer", root.OPTIMIZERS)
        if node.get("constructor", _CONSTRUCTOR) == _CONSTRUCTOR:
            rules = node.get("paramwise_cfg") or {}
            _refuse(rules, f"{name}.paramwise_cfg", _PARAMWISE, _CONSTRUCTOR)
        clip = arguments_of(clip_grad_norm_)[0] | {"type", "clip_value"}
        _refuse(node.get("clip_grad") or {}, f"{name}.clip_grad", clip, "clipping of gradients")

    def _schedulers(self, node: Any, name: str) -> None:
        if isinstance(node, dict) and "type" not in node:  # of several optimizers
            for key, value in node.items():
                self._schedulers(value, f"{name}.{key}")
            return
        for inner, scheduler in _items(node, name):
            more = {"convert_to_iter_based"}
            self._typed(scheduler, inner, root.PARAM_SCHEDULERS, besides=more)

    def _hooks(self, cfg: Config) -> None:
        hooks = cfg.get("default_hooks") or {}
        for key, hook in hooks.items():
            if isinstance(hook, dict) and "type" not in hook:
                known = [k for k, value in hooks.items() if isinstance(value, dict) and k != key]
                raise UserError(
                    f"default_hooks.{key} has no type, so it is not a hook"
                    + (hint(key, known) or f": use one of {', '.join(known)}, or give it a type")
                )
            self._typed(hook, f"default_hooks.{key}", root.HOOKS, besides={"priority"})
        for name, hook in _items(cfg.get("custom_hooks"), "custom_hooks"):
            self._typed(hook, name, root.HOOKS, besides={"priority"})

    def _plain(self, cfg: Config) -> None:
        """Dicts whose keys are arguments of one function."""
        env = cfg.get("env_cfg") or {}
        parts: list[tuple[str, Any, Collection[str]]] = [
            ("randomness", cfg.get("randomness"), arguments_of(Runner.set_randomness)[0]),
            ("auto_scale_lr", cfg.get("auto_scale_lr"), ("enable", "base_batch_size")),
            ("custom_imports", cfg.get("custom_imports"), _arguments(import_modules_from_strings)),
            ("env_cfg", env, ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")),
            ("env_cfg.mp_cfg", env.get("mp_cfg"), _arguments(set_multi_processing)),
        ]
        for name, node, known in parts:
            _refuse(node or {}, name, known, "mmengine's Runner")
        if processor := cfg.get("log_processor"):
            self._typed(processor, "log_processor", root.LOG_PROCESSORS, LogProcessor)

    def _model(self, node: Any, name: str, scope: str, depth: int = 0) -> None:
        """A model and its parts; what a part builds itself may have keys that it takes out."""
        if isinstance(node, dict):
            scope = node.get("_scope_", scope)
            if "type" in node:
                cls = _find(root.MODELS, node["type"], scope)
                cls = cls or _find(root.TASK_UTILS, node["type"], scope)
                if cls is not None:
                    is_ours = cls.__module__.startswith("milan_mm.")
                    self._arguments(node, name, cls, only_near=depth > 1 and not is_ours)
            for key, value in node.items():
                if not str(key).endswith(_OTHER_BUILDERS):
                    self._model(value, f"{name}.{key}", scope, depth + 1)
        elif isinstance(node, (list, tuple)):
            for i, part in enumerate(node):
                self._model(part, f"{name}.{i}", scope, depth)

    def _typed(
        self,
        node: Any,
        name: str,
        registry: Registry,
        default: Any = None,
        besides: Collection[str] = (),
    ) -> None:
        """Check a dict that is built by a registry, or by a class if it names none."""
        if not isinstance(node, dict) or (default is None and "type" not in node):
            return
        scope = node.get("_scope_", self.scope)
        kind = node.get("type", default)
        cls = _find(registry, kind, scope)
        if cls is None:
            raise UserError(
                f"{name}.type='{kind}': no {registry.name} has this name{_like(registry, kind)}"
            )
        self._arguments(node, name, cls, besides)

    def _arguments(
        self,
        node: dict,
        name: str,
        cls: Callable[..., Any],
        besides: Collection[str] = (),
        only_near: bool = False,
    ) -> None:
        known, is_open = arguments_of(cls)
        known, is_open = known | set(besides), is_open or only_near
        for key in node:
            if key in known or key in ("type", "_scope_"):
                continue
            if not is_open or nearest(key, known, SAME):
                _refuse({key: node[key]}, name, known, cls.__name__)


def _arguments(function: Callable[..., Any]) -> Collection[str]:
    return arguments_of(function)[0]


def _items(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The parts of a list with their names; anything else that is not None is its only part."""
    if isinstance(node, (list, tuple)):
        yield from ((f"{name}.{i}", part) for i, part in enumerate(node))
    elif node is not None:
        yield name, node


def _find(registry: Registry, kind: Any, scope: str) -> Callable[..., Any] | None:
    """What a type means, in a scope; None if it is not known."""
    if not isinstance(kind, str):
        return cast(Callable[..., Any], kind) if callable(kind) else None
    with registry.switch_scope_and_registry(scope) as here:
        return here.get(kind)


def _like(registry: Registry, kind: object) -> str:
    names: set[str] = set()
    for each in (registry, *registry.children.values()):
        names |= set(each.module_dict)
    return hint(str(kind).rpartition(".")[2], names)


def _refuse(node: dict, name: str, known: Collection[str], owner: str) -> None:
    """Raise for the first key that is not known."""
    for key, value in node.items():
        if key not in known:
            shown = repr(value)
            shown = f"={shown}" if len(shown) <= 40 else ""
            raise UserError(f"{name}.{key}{shown}: {owner} takes no '{key}'{hint(key, known)}")


def _kind(node: Any) -> str:
    return str(node.get("type") if isinstance(node, dict) else node)
