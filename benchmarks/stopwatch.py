"""Time of functions that call each other."""

from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stopwatch:
    """Seconds by name; the time of a timed call within another counts for the inner one only.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._inner = [0.0]  # seconds of timed calls within each open call

    def start(self) -> float:
        """Open a call; returns its start."""
        self._inner.append(0.0)
        return self._clock()

    def stop(self, name: str, start: float) -> None:
        """Close the call that was opened last."""
        elapsed = self._clock() - start
        self.seconds[name] += elapsed - self._inner.pop()
        self._inner[-1] += elapsed

    def timed(self, name: str, function: Callable) -> Callable:
        """The same function, its time added to `name` at each call."""

        @wraps(function, updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            start = self.start()
            try:
                return function(*args, **kwargs)
            finally:
                self.stop(name, start)

        return run
