"""Checks of whole data sets, every file of them: `imagenet.py`, `coco.py`, `ade20k.py`."""
