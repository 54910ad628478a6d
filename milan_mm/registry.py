"""Registries of scope `milan_mm`, children of mmengine's roots.

The scope separates `milan_mm.MILAN` from the `MILAN` that mmpretrain registers. When a config first
names `type='milan_mm.X'`, mmengine imports `milan_mm.registry`, which is why this module has this
name, and then the registry's `locations`. So the type resolves in configs of mmpretrain, mmdet and
mmseg, and in a process that has imported mmengine only.
"""

from importlib import import_module
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

from milan_mm.configs import find_bases

SCOPE = "milan_mm"
# Classes that stand on mmdet's models, which take seconds to import -> their modules.
DETECTION = dict(CascadeRoIHead="milan_mm.models.cascade")
find_bases()


class ModelRegistry(Registry):
    """A registry that imports the module of a class in `DETECTION` when it is asked for it."""

    def get(self, key: str) -> Any:
        """The class that a config calls `key`."""
        if module := DETECTION.get(key.rpartition(".")[2]):
            import_module(module)
        return super().get(key)


def _child(name: str, parent: Registry, *locations: str, kind: type = Registry) -> Registry:
    # mmengine imports `locations`, which registers the classes, at the first look-up
    return kind(name, parent=parent, scope=SCOPE, locations=[f"{SCOPE}.register", *locations])


MODELS = _child("model", root.MODELS, kind=ModelRegistry)
# apart from register: mmdet's and mmseg's data sets take seconds to import, which few runs need
DATASETS = _child(
    "dataset",
    root.DATASETS,
    "milan_mm.datasets.coco.dataset",
    "milan_mm.datasets.label_pairs",
    "milan_mm.datasets.depth_pairs",
)
DATA_SAMPLERS = _child("data sampler", root.DATA_SAMPLERS)
TRANSFORMS = _child("transform", root.TRANSFORMS)
HOOKS = _child("hook", root.HOOKS)
LOOPS = _child("loop", root.LOOPS)
RUNNERS = _child("runner", root.RUNNERS)
MODEL_WRAPPERS = _child("model_wrapper", root.MODEL_WRAPPERS)
FUNCTIONS = _child("function", root.FUNCTIONS)
OPTIMIZERS = _child("optimizer", root.OPTIMIZERS)
OPTIM_WRAPPERS = _child("optim_wrapper", root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", root.OPTIM_WRAPPER_CONSTRUCTORS
)
PARAM_SCHEDULERS = _child("parameter scheduler", root.PARAM_SCHEDULERS)
WEIGHT_INITIALIZERS = _child("weight initializer", root.WEIGHT_INITIALIZERS)
VISBACKENDS = _child("vis_backend", root.VISBACKENDS)
# without register, whose classes are none of these; the COCO metric imports mmdet, so it is apart
METRICS = Registry(
    "metric",
    parent=root.METRICS,
    scope=SCOPE,
    locations=[f"{SCOPE}.evaluation.coco_metric", f"{SCOPE}.evaluation.confusion"],
)
