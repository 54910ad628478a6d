"""MILAN: `milan.py` first, then `masking.py`, `decoder.py`, `targets.py`, `teacher.py`."""
