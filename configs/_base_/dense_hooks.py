"""What detection and segmentation runs add to any config of mmdet and mmseg; `mmseg::` is found."""

from importlib import import_module

# an `import` of it would make this a config of mmengine's other kind
import_module("milan_mm.configs").find_bases()

custom_hooks = [
    dict(type="milan_mm.LossHook"),
    dict(type="milan_mm.UnreadableImagesHook"),
    dict(type="milan_mm.LoadingTimeHook"),
    dict(type="milan_mm.SpeedHook"),
    dict(type="milan_mm.GradientNormHook"),
]
randomness = dict(seed=0)
