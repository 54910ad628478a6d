"""MILAN: `milan.py` first, then `masking.py`, `decoder.py`, `targets.py`, `teacher.py`."""

from milan_mm import language_models  # before mmpretrain

__all__ = ["language_models"]
