"""What surrounds a training step: hooks, parameter groups, bfloat16, checkpoints, memory.

Importing anything from here makes mmengine know the file backend `atomic_local`, which dumped
configs name, see `checkpoints.py`.
"""

from milan_mm.engine import checkpoints

__all__ = ["checkpoints"]
