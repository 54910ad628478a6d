"""What a figure says of itself: the caption, and the facts that make it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

import milan_mm
from milan_mm.look.images import Photo
from milan_mm.look.systems import Shown


@dataclass(frozen=True)
class Outcome:
    """A figure, what it says about itself, and lines to print."""

    figure: Figure
    facts: dict[str, Any]
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Wording:
    """What the figure says of itself, and its width.

    Attributes:
        command: The command line that makes the figure.
        caption: Whether the caption is drawn; the file's facts hold it anyway.
        width: Of the figure in inches.
    """

    command: str
    caption: bool
    width: float

    def drawn(self, caption: str) -> str:
        """The caption, or nothing where it is not wanted."""
        return caption if self.caption else ""


def make_facts(
    title: str,
    caption: str,
    wording: Wording,
    shown: Sequence[Shown] = (),
    photos: Sequence[Photo] = (),
    **settings: Any,
) -> dict[str, Any]:
    """The facts of a figure, as JSON can hold them.

    Args:
        title: What the figure is.
        caption: Complete, with the weights.
        settings: Everything else that decides on the picture.
    """
    return dict(
        title=title,
        caption=caption,
        command=wording.command,
        milan_mm=milan_mm.__version__,
        weights=[system.facts for system in shown],
        images=[str(photo.path) for photo in photos],
        **settings,
    )


def name_weights(shown: Sequence[Shown]) -> str:
    """A sentence that names each file and its checksum."""
    return "Weights: " + "; ".join(system.reference for system in shown) + "."
