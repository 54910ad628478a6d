"""MILAN pretraining for plain ViTs, and transfer to mmdet and mmseg."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name here -> module that has it, imported when the name is first used.
_LAZY = {
    "Encoder": "milan_mm.encoder.module",
    "list_encoders": "milan_mm.weights.names",
    "load_encoder": "milan_mm.encoder.loading",
    "recipe": "milan_mm.configs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
