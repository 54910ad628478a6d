"""MILAN: `milan.py` first, then `masking.py`, `decoder.py`, `targets.py`, `teacher.py`."""

from milan_mm import registry  # first, see `leave_out_language_models`

__all__ = ["registry"]
