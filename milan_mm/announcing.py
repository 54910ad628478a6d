"""What `import milan_mm` does: let mmengine, once it is there, find our registries and configs.

mmengine imports torch, which takes seconds, and `--help` needs neither. So the package announces
itself when mmengine has been imported, by whomever, and imports nothing itself.
"""

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

FRAMEWORK = "mmengine"


def announce_with_mmengine() -> None:
    """Announce the package: now where mmengine is imported already, else right after its import."""
    if FRAMEWORK in sys.modules:
        _announce()
    else:
        sys.meta_path.insert(0, _WaitForMMEngine())


class _WaitForMMEngine(MetaPathFinder):
    """Finds mmengine where the other finders find it, and announces the package after its import.

    It steps aside then: every other import passes it only until mmengine's.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != FRAMEWORK:
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_announce(module: ModuleType) -> None:
            execute(module)
            with suppress(ValueError):
                sys.meta_path.remove(self)
            _announce()

        spec.loader.exec_module = execute_and_announce  # type: ignore[method-assign]
        return spec


def _announce() -> None:
    # with half an mmengine the self-check (`python -m milan_mm doctor`) must still start, to say so
    with suppress(ImportError):
        importlib.import_module("milan_mm.registry")
        importlib.import_module("milan_mm.forks").find_fork_configs()
