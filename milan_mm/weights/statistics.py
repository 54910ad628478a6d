"""The statistics that images are normalised by: names of the usual ones, numbers for all others.

Statistics are written as text, which files and reports can hold: the name of a usual pair, or the
numbers themselves, e.g. 'mean 0.1 0.2 0.3 std 0.25 0.25 0.25' of R, G, B in 0-1.
"""

import math
import re
from numbers import Real

from milan_mm.errors import UserError

Three = tuple[float, float, float]
# Mean and standard deviation of R, G, B in 0-1.
STATS: dict[str, tuple[Three, Three]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
SAME = 2e-4  # numbers that are rounded, or were turned from 0-255, still mean the usual pair
_NUMBERS = re.compile(r"mean (\S+) (\S+) (\S+) std (\S+) (\S+) (\S+)")


def stats_text(mean: object, std: object, where: str = "statistics") -> str:
    """Statistics as text: the key of `STATS` with these numbers, else the numbers.

    Args:
        mean, std: Of R, G, B in 0-1; a single number stands for all three.
        where: What states them, for messages.

    Raises:
        UserError: When they are not one or three numbers, or `std` is not positive.
    """
    means, stds = _three(mean, "mean", where), _three(std, "std", where)
    if min(stds) <= 0:
        raise UserError(f"{where}: std={std!r} must be positive")
    given = means + stds
    for name, (usual_mean, usual_std) in STATS.items():
        usual = usual_mean + usual_std
        if all(abs(a - b) <= SAME for a, b in zip(given, usual, strict=True)):
            return name
    written = [f"{value:.6g}" for value in given]
    return f"mean {' '.join(written[:3])} std {' '.join(written[3:])}"


def stats_values(stats: str) -> tuple[Three, Three]:
    """Mean and standard deviation of R, G, B in 0-1.

    Args:
        stats: See `stats_text`.

    Raises:
        UserError: When the text is neither a name nor six numbers.
    """
    if stats in STATS:
        return STATS[stats]
    problem = UserError(
        f"image statistics '{stats}' are unknown: choose from {', '.join(STATS)}, or write the "
        "numbers of R, G, B in 0-1 as 'mean 0.1 0.2 0.3 std 0.2 0.2 0.2'"
    )
    match = _NUMBERS.fullmatch(stats)
    if not match:
        raise problem
    try:
        r, g, b, std_r, std_g, std_b = (float(number) for number in match.groups())
    except ValueError:
        raise problem from None
    numbers = (r, g, b, std_r, std_g, std_b)
    if not all(map(math.isfinite, numbers)) or min(std_r, std_g, std_b) <= 0:
        raise problem
    return (r, g, b), (std_r, std_g, std_b)


def byte_stats(stats: str) -> tuple[list[float], list[float]]:
    """The same in 0-255, as data preprocessors take them."""
    mean, std = stats_values(stats)
    return [round(255 * value, 3) for value in mean], [round(255 * value, 3) for value in std]


def _three(value: object, name: str, where: str) -> Three:
    values = list(value) if isinstance(value, list | tuple) else [value]
    numbers = [float(v) for v in values if isinstance(v, Real) and not isinstance(v, bool)]
    if (
        len(numbers) != len(values)
        or len(values) not in (1, 3)
        or not all(map(math.isfinite, numbers))
    ):
        raise UserError(f"{where}: {name}={value!r} must be one number, or three for R, G, B")
    r, g, b = numbers * 3 if len(numbers) == 1 else numbers
    return r, g, b
