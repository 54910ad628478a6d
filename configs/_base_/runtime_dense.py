"""What detection and segmentation runs add to mmdet's and mmseg's own runtime."""

_base_ = ["./dense_hooks.py"]

custom_imports = dict(imports=["milan_mm.register"])
