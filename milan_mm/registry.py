"""Registries of scope `milan_mm`, children of mmengine's roots.

The own scope keeps `milan_mm.MILAN` apart from the `MILAN` that mmpretrain registers, and makes
`type='milan_mm.X'` resolve from mmpretrain, mmdet and mmseg configs alike.
"""

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = "milan_mm"


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    # `locations` imports the package, which registers its classes, on the first look-up.
    return Registry(name, parent=parent, scope=SCOPE, locations=[f"{SCOPE}.register", *locations])


MODELS = _child("model", root.MODELS)
# the data sets of mmseg take seconds to import: in the run that needs them
DATASETS = _child("dataset", root.DATASETS, "milan_mm.datasets.label_pairs")
TRANSFORMS = _child("transform", root.TRANSFORMS)
HOOKS = _child("hook", root.HOOKS)
OPTIMIZERS = _child("optimizer", root.OPTIMIZERS)
OPTIM_WRAPPERS = _child("optim_wrapper", root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", root.OPTIM_WRAPPER_CONSTRUCTORS
)
WEIGHT_INITIALIZERS = _child("weight initializer", root.WEIGHT_INITIALIZERS)
# with a location of its own: classification needs no mmdet, which the COCO metric does
METRICS = Registry(
    "metric", parent=root.METRICS, scope=SCOPE, locations=[f"{SCOPE}.evaluation.coco_metric"]
)
