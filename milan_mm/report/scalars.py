"""The curves of a run from the scalars that mmengine logged, joined over its interruptions.

Each start of a run has a folder with its own `vis_data/scalars.json`. A run that was resumed
repeats what it had done after its last checkpoint, perhaps with another split of the batch, so that
an iteration is another share of an update. Here everything is placed at its update, and of what was
done twice the later counts, since its weights are those that lived on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from milan_mm.report.stranger import loads

_NOT_METRICS = ("step", "iter", "epoch", "update", "data_time", "time", "eta")
IMAGES, WAITING = "images_per_second", "waiting"
_OF_TRAINING = ("loss", "lr", "time")  # one of them is in every row that mmengine logs of it
_LARGEST = 1e100
Points = dict[float, float]  # value by update


@dataclass(frozen=True)
class Logged:
    """The scalars of one start.

    Attributes:
        rows: As they are in the file.
        accumulation: Iterations per update.
        start: Updates that were done before; None where nothing says so.
        images: Per iteration, over all processes; None where unknown.
    """

    rows: Sequence[Mapping[str, object]]
    accumulation: int = 1
    start: float | None = None
    images: int | None = None


@dataclass
class Curves:
    """Of a whole run, by name, at updates.

    Attributes:
        train: What was logged while it trained, and `IMAGES` and `WAITING` (share, 0-1).
        val: Metrics of validations, and what else is measured now and then.
        resumed: Updates from which it went on.
    """

    train: dict[str, Points] = field(default_factory=dict)
    val: dict[str, Points] = field(default_factory=dict)
    resumed: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The last update that was logged."""
        return max((x for points in self.train.values() for x in points), default=0.0)


def read_rows(path: str | Path) -> list[dict[str, object]]:
    """The rows of a scalars.json; lines that are torn or of another kind are left out."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and _is_number(row.get("step")):
            rows.append({name: value for name, value in row.items() if _is_number(value)})
    return rows


def _is_number(value: object) -> bool:
    """Whether a curve can show it; training that diverges logs NaN first."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _LARGEST  # type: ignore[arg-type]


def is_training(row: Mapping[str, object]) -> bool:
    """Whether a row is of training iterations, and not of a validation or of k-NN."""
    return "iter" in row and any(name in row for name in _OF_TRAINING)


def join_parts(
    parts: Iterable[Logged], per_epoch: int | None = None, val_every: float | None = None
) -> Curves:
    """Place the rows of all starts at their updates.

    Args:
        parts: In the order of time.
        per_epoch: Updates of an epoch, where the run counts epochs.
        val_every: Updates between two validations, which mmdet's rows do not say.
    """
    curves = Curves()
    for part in parts:
        placed = _place(part, per_epoch, val_every)
        trained = [x for x, row in placed if is_training(row)]
        if not trained:
            continue
        first = min(trained)
        start = part.start if part.start is not None else first - 1
        _forget_after(curves, start)
        if start > 0 and curves.train:
            curves.resumed.append(start)
        for x, row in placed:
            _add(curves, x, row, part)
    for kind in (curves.train, curves.val):
        kind.update({name: dict(sorted(points.items())) for name, points in kind.items()})
    return curves


def _place(
    part: Logged, per_epoch: int | None, val_every: float | None
) -> list[tuple[float, Mapping[str, object]]]:
    """Rows with their updates.

    Rows of a training have an iteration, and so has k-NN. Those of a validation may have an
    iteration or an epoch as their step, or a 0 (mmdet); they stand after the training that they
    judge.
    """
    found = []
    last = part.start or 0.0
    for row in part.rows:
        step = float(row["step"])  # type: ignore[arg-type]
        if isinstance(iteration := row.get("iter"), int | float):
            x = iteration / part.accumulation
            last = x if is_training(row) else last
            found.append((x, row))
            continue
        if step and last and step / part.accumulation >= last:
            x = step / part.accumulation
        elif per_epoch and step * per_epoch >= last:
            x = step * per_epoch
        elif val_every:
            x = math.ceil(last / val_every - 1e-9) * val_every
        else:
            x = last
        found.append((x, row))
    return found


def _forget_after(curves: Curves, start: float) -> None:
    for kind in (curves.train, curves.val):
        for name, points in list(kind.items()):
            kept = {x: value for x, value in points.items() if x <= start}
            if kept:
                kind[name] = kept
            else:
                del kind[name]
    curves.resumed = [x for x in curves.resumed if x <= start]


def _add(curves: Curves, x: float, row: Mapping[str, object], part: Logged) -> None:
    is_train = is_training(row)
    target = curves.train if is_train else curves.val
    for name, value in row.items():
        if name in _NOT_METRICS or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            target.setdefault(name, {})[x] = float(value)
    time, waited = row.get("time"), row.get("data_time")
    if not is_train or not isinstance(time, int | float) or time <= 0:
        return
    if part.images and IMAGES not in row:  # of versions that did not log it
        target.setdefault(IMAGES, {})[x] = part.images / time
    if isinstance(waited, int | float) and WAITING not in row:
        target.setdefault(WAITING, {})[x] = min(waited / time, 1.0)
