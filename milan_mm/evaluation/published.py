"""The numbers of MILAN's paper (arXiv 2208.06049, Tables 1 and 3): published, not measured here."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """One number of a table.

    Attributes:
        table: Its number in the paper. method: The system, as the paper spells it.
        pretraining_data, epochs: Of the encoder, None where the table does not say.
        arch: 'ViT-B/16' or 'ViT-L/16'. img_size: Of the task, in pixels.
        task, metric: As in a results file. value: In %.
    """

    table: int
    method: str
    pretraining_data: str | None
    epochs: int | None
    arch: str
    img_size: int
    task: str
    metric: str
    value: float


@cache
def published() -> tuple[Published, ...]:
    """Every number, in the order of the tables."""
    return tuple(Published(**row) for row in json.loads(FILE.read_text("utf-8"))["rows"])


@cache
def source() -> str:
    """Where the numbers come from."""
    return json.loads(FILE.read_text("utf-8"))["source"]


def plain_name(method: str) -> str:
    """A name without case, spaces and hyphens: 'MoCo v3' and 'mocov3' are one system."""
    return "".join(c for c in method.lower() if c.isalnum())
