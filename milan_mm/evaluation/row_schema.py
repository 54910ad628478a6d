"""The keys of a row of results.

A row of `tools/evaluate.py`, which `tools/report.py` turns into tables, has these keys:

    task            a name of milan_mm/evaluation/tasks.py
    metric          what was measured, one of the task's
    value           the number in the metric's unit, mostly %, or null where it is undefined
    method          the system that made the encoder, e.g. 'MAE'
    weights         name of the weights file; weights_sha256: of its content, 64 hexadecimal digits
    config          name of the recipe; config_hash: of its content
    protocol        'paper', 'own' (another length or rate than the recipe's) or 'short'
    protocol_hash   equal for runs that may be compared, see `milan_mm/evaluation/fingerprint.py`
    total_batch     images per optimizer step, or null where nothing was trained
    precision       'bfloat16' or 'float32'
    seed            of the run
    packages        version by name
    data            name of the data set: 'ImageNet', 'COCO', 'ADE20K' or that of your own folder
    data_counts     images by split
    data_hash       by split, of names and sizes of the files or of the annotation file; rows of
                    version 0.1 have none
    commit          git commit of this package with '-dirty' when files were changed, or null
    time            when the row was written, in ISO 8601
    seconds         that the run took, all starts of an interrupted training together, also those
                    that left no checkpoint; features that were there already cost none
    command         line that ran it; rows of version 0.1 have none
    interval        [low, high] of 95 % in the unit of value, bootstrapped over the test images,
                    where the numbers of each image are known
    draws           the values of several draws of training images, of which value is the mean
    chosen          hyperparameters by name, chosen on a part of the training images
    checksum        of all other keys, see row_checksum.py; rows of version 0.1 have none

The demo, the ablation, tools/photographs.py and tools/knn.py write rows with other facts, for their
own tables; task, metric, value and seconds are the same in all of them.
"""

from collections.abc import Mapping
from datetime import datetime

from milan_mm.errors import UserError
from milan_mm.evaluation.tasks import DATA_NAMES, TASKS, metric_of, metrics_of

PROTOCOLS = ("paper", "own", "short")
_NUMBER, _TEXT = (int, float), (str,)
_TYPES: dict[str, tuple[type, ...]] = dict(
    task=_TEXT,
    metric=_TEXT,
    value=(*_NUMBER, type(None)),
    method=_TEXT,
    weights=_TEXT,
    weights_sha256=_TEXT,
    config=_TEXT,
    config_hash=_TEXT,
    protocol=_TEXT,
    protocol_hash=_TEXT,
    total_batch=(int, type(None)),
    precision=_TEXT,
    seed=(int,),
    packages=(dict,),
    data=_TEXT,
    data_counts=(dict,),
    commit=(str, type(None)),
    time=_TEXT,
    seconds=_NUMBER,
)
# Not in rows of earlier versions.
_LATER: dict[str, tuple[type, ...]] = dict(
    data_hash=(dict,), command=_TEXT, interval=(list,), draws=(list,), chosen=(dict,)
)
_OTHER_TABLES = dict(
    pretrain="tools/demo.py",
    det="tools/demo.py",
    seg="tools/demo.py",
    ablation="tools/ablation.py",
    photographs="tools/photographs.py",
)


def is_same(row: Mapping, identity: Mapping[str, object]) -> bool:
    """Whether a row has this identity.

    A row of version 0.1 does not say which photos it was measured on: it counts for a published
    data set, whose name says it, and not for a folder, whose name many have.
    """
    known = {
        key: value
        for key, value in identity.items()
        if key in row or key not in _LATER or row.get("data") not in DATA_NAMES
    }
    return all(row.get(key) == value for key, value in known.items())


def make_rows(facts: Mapping[str, object], values: Mapping[str, float | None]) -> list[dict]:
    """The rows of one run: a row for each metric, all with the same facts.

    Args:
        facts: By key.
        values: By metric.
    """
    return [dict(metric=metric, value=value, **facts) for metric, value in values.items()]


def is_of_evaluate(row: Mapping) -> bool:
    """Whether a row claims to be of `tools/evaluate.py`; `check_row` says whether it is right."""
    return row.get("task") not in _OTHER_TABLES and "init" not in row


def check_row(row: Mapping, place: str) -> None:
    """Check that a row is a result of `tools/evaluate.py`.

    Args:
        place: Of the row, for messages.

    Raises:
        UserError: Naming the place and the key that does not fit the schema above.
    """
    task = row.get("task")
    if task in _OTHER_TABLES:
        raise UserError(
            f"{place} has task '{task}', a row of {_OTHER_TABLES[task]}, which makes its own "
            "table: give the results.jsonl of tools/evaluate.py"
        )
    if task == "knn" and "init" in row:
        raise UserError(
            f"{place} is a row of tools/knn.py --out, which states no method and no protocol: run "
            "tools/evaluate.py --tasks knn"
        )
    for key, types in (_TYPES | _LATER).items():
        if key not in row and key in _LATER:
            continue
        if key not in row:
            raise UserError(f"{place} has no key '{key}', which every result needs")
        value = row[key]
        if not isinstance(value, types) or isinstance(value, bool):
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise UserError(f"{place} has {key} {value!r}, expected {wanted}")
    for key, known in (
        ("task", TASKS),
        ("protocol", PROTOCOLS),
        ("metric", _metric_names(row["task"], row["data"])),
    ):
        if row[key] not in known:
            raise UserError(f"{place} has {key} '{row[key]}', expected one of {', '.join(known)}")
    _check_value(row, place)
    _check_spread(row, place)
    digits = set(row["weights_sha256"])
    if len(row["weights_sha256"]) != 64 or not digits <= set("0123456789abcdef"):
        raise UserError(
            f"{place} has weights_sha256 '{row['weights_sha256']}', expected 64 hexadecimal digits"
        )
    try:
        datetime.fromisoformat(row["time"])
    except ValueError:
        raise UserError(
            f"{place} has time '{row['time']}', expected ISO 8601, like 2026-01-31T12:00:00"
        ) from None


def _metric_names(task: str, data: str) -> list[str]:
    return [metric.name for metric in metrics_of(task, data)] if task in TASKS else []


def _check_value(row: Mapping, place: str) -> None:
    value, metric = row["value"], metric_of(row["task"], row["data"], row["metric"])
    if value is None:
        return
    if metric.unit == "%" and not 0 <= value <= 100:
        raise UserError(f"{place} has value {value}, which is outside 0..100 %")
    if not 0 <= value < float("inf"):
        raise UserError(
            f"{place} has value {value}, expected a number of {metric.unit or 'any'} size"
        )


def _check_spread(row: Mapping, place: str) -> None:
    """Check interval and draws, which are numbers of the same unit as the value."""
    for key in ("interval", "draws"):
        numbers = row.get(key, [])
        if not all(isinstance(n, _NUMBER) and not isinstance(n, bool) for n in numbers):
            raise UserError(f"{place} has {key} {numbers}, expected numbers")
        for number in numbers:
            _check_value(dict(row, value=number), f"{place}, {key}:")
    if "interval" in row:
        ends = row["interval"]
        if len(ends) != 2 or ends[0] > ends[1]:
            raise UserError(f"{place} has interval {ends}, expected [low, high]")
