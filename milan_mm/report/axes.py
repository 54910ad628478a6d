"""Axes of the SVG pictures: which numbers stand at the ticks, where, and how they are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Axis:
    """A scale from numbers to pixels.

    Attributes:
        low, high: Ends, in the numbers' unit; above 0 for a logarithmic one.
        start, stop: Of these ends, in pixels.
        ticks: Numbers that are written beside it.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Where a number is, in pixels."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    @property
    def labels(self) -> list[str]:
        """The ticks as text, each with the digits that tell it from its neighbours."""
        return tick_labels(self.ticks)


def linear_axis(low: float, high: float, start: float, stop: float, count: int = 5) -> Axis:
    """One that ends at round numbers, with about `count` ticks."""
    low, high = _apart(low, high)
    step = _round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, stop, ticks)


def tight_axis(low: float, high: float, start: float, stop: float, count: int = 5) -> Axis:
    """One that ends where the numbers end, with ticks at round ones in between."""
    low, high = _apart(low, high)
    step = _round_step((high - low) / count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, start, stop, tuple(i * step for i in range(first, last + 1)))


def log_axis(low: float, high: float, start: float, stop: float) -> Axis:
    """One with ticks at 1, 2 and 5 of each power of ten; at 1 alone where that are too many."""
    low, high = _apart(low, high) if low == high else (low, high)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        marks = [d * 10.0**p for p in powers for d in digits]
        below = [m for m in marks if m <= low * 1.001]
        above = [m for m in marks if m >= high * 0.999]
        first, last = below[-1] if below else low, above[0] if above else high
        ticks = tuple(m for m in marks if first <= m <= last)
        if len(ticks) <= 8:
            break
    every = math.ceil(len(ticks) / 8)
    return Axis(first, last, start, stop, ticks[::every], log=True)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Numbers as text: 0.002, 20k, 1.5M; very small ones as 2e-05."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    for size, prefix in _PREFIXES:
        if largest >= 10 * size or (largest >= size and size > 1e3):
            return ["0" if not tick else f"{tick / size:.6g}{prefix}" for tick in ticks]
    return [number(tick, 6) for tick in ticks]


def number(value: float, digits: int = 4) -> str:
    """A number with so many digits that count, without zeros at its end."""
    if value and abs(value) < 1e-3:
        return f"{value:.{min(digits, 3)}g}".replace("e-0", "e-")
    if abs(value) >= min(10**digits, 10_000):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def px(value: float) -> str:
    """A place in a picture, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def duration(time: timedelta) -> str:
    """A time of training, e.g. '2 d 3 h', '1 h 5 min' or '42 s'."""
    seconds = round(time.total_seconds())
    sizes = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next((i for i, (_, size) in enumerate(sizes) if seconds >= size), 3)
    words: list[str] = []
    for unit, size in sizes[first : first + 2]:
        amount, seconds = divmod(seconds, size)
        if amount or not words:
            words.append(f"{amount} {unit}")
    return " ".join(words)


def _apart(low: float, high: float) -> tuple[float, float]:
    """Two numbers that differ."""
    if low < high:
        return low, high
    space = abs(low) * 0.1 or 1.0
    return low - space, high + space


def _round_step(size: float) -> float:
    power = 10.0 ** math.floor(math.log10(size))
    return next(power * step for step in _STEPS if power * step >= size * 0.999)
