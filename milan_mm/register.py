"""Import every module that registers a class.

mmengine imports this module at the first look-up in one of our registries, see `registry.py`.
Recipes also name it in `custom_imports`, and so do configs that runs have dumped.
"""

from milan_mm import language_models
from milan_mm.datasets import (
    crops,
    even_sample,
    imagenet_variants,
    inferencing,
    labels,
    loading,
    repeat_factor,
    whole_updates,
    workers,
)
from milan_mm.datasets import depth as depth_maps
from milan_mm.datasets import seeding as sample_seeding
from milan_mm.engine import (
    amp,
    logs,
    loops,
    optim,
    schedulers,
    sharded_runner,
    sharding,
    trackers,
)
from milan_mm.engine.hooks import (
    class_counts,
    compiling,
    gradient_norm,
    history,
    loading_time,
    losses,
    pictures,
    saving,
    seeding,
    speed,
    tracking,
    unreadable,
    updates,
)
from milan_mm.evaluation import online, variant_accuracy
from milan_mm.models import depth, federated, multi_scale, plain_vit, probe, pyramid
from milan_mm.pretrain import (
    decoder,
    linear_decoder,
    masking,
    milan,
    targets,
    teacher_clip,
    teacher_encoder,
    teacher_timm,
)
from milan_mm.weights import loading as weights

__all__ = [
    "amp",
    "class_counts",
    "compiling",
    "crops",
    "decoder",
    "depth",
    "depth_maps",
    "even_sample",
    "federated",
    "gradient_norm",
    "history",
    "imagenet_variants",
    "inferencing",
    "labels",
    "language_models",
    "linear_decoder",
    "loading",
    "loading_time",
    "logs",
    "loops",
    "losses",
    "masking",
    "milan",
    "multi_scale",
    "online",
    "optim",
    "pictures",
    "plain_vit",
    "probe",
    "pyramid",
    "repeat_factor",
    "sample_seeding",
    "saving",
    "schedulers",
    "seeding",
    "sharded_runner",
    "sharding",
    "speed",
    "targets",
    "teacher_clip",
    "teacher_encoder",
    "teacher_timm",
    "trackers",
    "tracking",
    "unreadable",
    "updates",
    "variant_accuracy",
    "weights",
    "whole_updates",
    "workers",
]
