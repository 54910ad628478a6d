"""What surrounds a run: hooks, safe reading and atomic writing, and how a config meets a machine.

Importing it registers the hooks, the checkpoint loaders and the `atomic_local` file backend.
"""

from milan_mm.engine import atomic, safe_loading
from milan_mm.engine.hooks import losses, seeding, unreadable

__all__ = ["atomic", "losses", "safe_loading", "seeding", "unreadable"]
