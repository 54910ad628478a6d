"""A stand-in for `Contest` whose contestants work in the test's own process, which is quicker."""

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from milan_mm.benchmark.contest import Entry, Measurements
from milan_mm.benchmark.flop_count import count_flops


class InProcessContest:
    """Contestants in the test's process. `Contest` itself is tested in test_contest.py."""

    def __init__(self, entries: Sequence[Entry], threads: int) -> None:
        self.measured = {entry.name: Measurements([], 1.0) for entry in entries}
        self._steps: dict[str, Callable[[], Any]] = {}
        for entry in entries:
            module, function = entry.prepare.split(":")
            prepare = getattr(importlib.import_module(module), function)
            self._steps[entry.name] = prepare(**entry.settings)

    def __enter__(self) -> "InProcessContest":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def results(self) -> dict[str, Any]:
        return {name: step() for name, step in self._steps.items()}

    def flops(self) -> dict[str, int]:
        return {name: count_flops(step) for name, step in self._steps.items()}

    def run(self, rounds: int, warm_up: int = 1) -> None:
        for name, step in self._steps.items():
            for _ in range(rounds):
                start = time.perf_counter()
                step()
                self.measured[name].seconds.append(time.perf_counter() - start)
