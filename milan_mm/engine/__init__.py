"""What surrounds a training step: hooks, parameter groups, bfloat16, checkpoints, memory.

Importing anything from here makes mmengine read checkpoints safely and know the file backend
`atomic_local`, see `checkpoints.py`. It happens at the import so that no run goes without: mmengine
reads `--resume` and `load_from` before any hook of ours is called.
"""

from milan_mm.engine import checkpoints

__all__ = ["checkpoints"]
