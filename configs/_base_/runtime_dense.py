"""What detection and segmentation runs add to mmdet's and mmseg's own runtime."""

custom_imports = dict(imports=["milan_mm.register"])
custom_hooks = [
    dict(type="milan_mm.LossHook"),
    dict(type="milan_mm.UnreadableImagesHook"),
    dict(type="milan_mm.LoadingTimeHook"),
    dict(type="milan_mm.SpeedHook"),
    dict(type="milan_mm.GradientNormHook"),
]
randomness = dict(seed=0)
