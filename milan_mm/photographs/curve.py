"""The curve of the study: k-NN accuracy against epochs of pretraining, one line per arm."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from milan_mm.photographs.arms import ARMS
from milan_mm.photographs.table import curves_of
from milan_mm.visualization.figure_files import save_figure
from milan_mm.visualization.style import LABEL_SIZE, class_look, paper_style

_SIZE = 5.2, 3.0  # inches
CAPTION = (
    "k-NN top-1 in % on the student's validation images, by the class token, after each epoch of "
    "pretraining: mean over seeds, the band from the lowest to the highest. Neighbours are up to "
    "2,000 of the training images, so the numbers are below those of the table."
)


def curve_figure(rows: Sequence[Mapping]) -> Figure:
    """Draw what results.jsonl has of the curves."""
    with paper_style():
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        for name, points in curves_of(rows).items():
            colour, marker = class_look(list(ARMS).index(name))
            epochs = sorted(points)
            means = [statistics.mean(points[epoch]) for epoch in epochs]
            axes.plot(
                epochs, means, color=colour, marker=marker, ms=3, lw=1, label=ARMS[name].title
            )
            low, high = ([end(points[epoch]) for epoch in epochs] for end in (min, max))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
        axes.set_xlabel("epochs of pretraining")
        axes.set_ylabel("k-NN top-1 in %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=LABEL_SIZE)
    return figure


def save_curve(rows: Sequence[Mapping], path: Path, command: str) -> bool:
    """Write the figure; False where there is nothing to draw."""
    if not curves_of(rows):
        return False
    facts = dict(title="k-NN during pretraining", caption=CAPTION, command=command)
    save_figure(curve_figure(rows), [path], facts)
    return True
