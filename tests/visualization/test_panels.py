"""Figures are laid out so that nothing is cut off and nothing overlaps."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from milan_mm.visualization.layout import text_width, wrap
from milan_mm.visualization.panels import Bar, Frame, Panel, panel_figure
from milan_mm.visualization.scatter import Cloud, scatter_figure
from milan_mm.visualization.style import COLUMN_WIDTH, PAGE_WIDTH, class_look, colour_map

PICTURE = np.zeros((30, 40, 3), np.uint8)
MAP = np.array([[0.0, 0.5], [1.0, np.nan]])
LONG = "a_name_that_is_much_longer_than_its_panel and more words"


def _panels(columns: int, width: float) -> Figure:
    row = [
        Panel(PICTURE, note="head 12: 0.98 %"),
        *[Panel(MAP, "attention", note=LONG)] * (columns - 1),
    ]
    frame = Frame(
        titles=[LONG] * columns,
        row_titles=[LONG, ""],
        bars=[
            Bar(1, columns - 1, "attention", "share of a map", ends=("0", "max of each map")),
        ],
        legend={f"class {i} of many": "C0" for i in range(9)},
        caption=f"{LONG}. " * 8,
        width=width,
    )
    return panel_figure([row, row], frame)


def _narrow() -> Figure:
    row = [Panel(MAP, "loss")] * 14
    bars = [Bar(i, i, "loss", "loss", 0.078, 1.34) for i in (1, 3)]
    return panel_figure([row], Frame(["distillation"] * 14, bars=bars))


def _clouds(number: int, width: float) -> Figure:
    points = np.random.default_rng(0).normal(size=(60, 2))
    clouds = [Cloud(points, LONG, "10-NN purity 91.2 %")] * number
    names = [f"n0144076{i}" for i in range(20)]
    return scatter_figure(clouds, np.arange(60) % 20, names, f"{LONG}. " * 8, width)


FIGURES = {
    "page, 3 columns": lambda: _panels(3, PAGE_WIDTH),
    "page, 8 columns": lambda: _panels(8, PAGE_WIDTH),
    "column, 4 columns": lambda: _panels(4, COLUMN_WIDTH),
    "page, 14 columns": _narrow,
    "page, 1 cloud": lambda: _clouds(1, PAGE_WIDTH),
    "page, 4 clouds": lambda: _clouds(4, PAGE_WIDTH),
    "column, 2 clouds": lambda: _clouds(2, COLUMN_WIDTH),
}


@pytest.mark.parametrize("dpi", [120, 300])
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_text_is_neither_cut_off_nor_covered_by_other_text(draw, dpi: int):
    figure = draw()
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    ticks = [label for axes in figure.axes for label in axes.get_xticklabels()]
    labels = [axes.xaxis.label for axes in figure.axes]
    texts = [t for t in [*figure.texts, *legends, *ticks, *labels] if t.get_text().strip()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    whole = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
        assert inside, text.get_text()
    for i, first in enumerate(boxes):
        for j in range(i):
            width = min(first.x1, boxes[j].x1) - max(first.x0, boxes[j].x0)
            height = min(first.y1, boxes[j].y1) - max(first.y0, boxes[j].y0)
            assert width <= 2 or height <= 2, (texts[i].get_text(), texts[j].get_text())


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_text_can_be_read_in_print(draw):
    figure = draw()
    assert figure.get_size_inches()[0] <= PAGE_WIDTH
    assert min(text.get_fontsize() for text in figure.texts) >= 6


def test_a_column_fits_a_column():
    assert FIGURES["column, 4 columns"]().get_size_inches()[0] == pytest.approx(COLUMN_WIDTH)


def test_a_picture_keeps_its_shape():
    figure = panel_figure([[Panel(PICTURE)]], Frame(["a"]))
    width, height = figure.axes[0].get_position().size * figure.get_size_inches()
    assert height / width == pytest.approx(30 / 40)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [(0, 4.6, ["0", "2.3", "4.6"]), (1.98, 2.02, ["1.98", "2", "2.02"]), (1, 1, ["1", "1", "1"])],
)
def test_the_numbers_of_a_colour_bar_differ(low: float, high: float, texts: list[str]):
    frame = Frame(["a"], bars=[Bar(0, 0, "loss", "loss", low, high)])
    axes = panel_figure([[Panel(MAP, "loss", 0, 2)]], frame).axes[-1]
    assert [label.get_text() for label in axes.get_xticklabels()] == texts


def test_a_map_shows_its_values_and_grey_where_it_has_none():
    figure = panel_figure([[Panel(MAP, "loss", 0, 2)]], Frame(["a"]))
    (image,) = figure.axes[0].get_images()
    shown = image.cmap(image.norm(image.get_array()))
    colours = colour_map("loss")
    np.testing.assert_allclose(shown[1, 0], colours(0.5))
    np.testing.assert_allclose(shown[1, 1], colours(np.nan))


def test_lines_break_in_names_of_files_and_end_with_an_ellipsis():
    width = text_width("pretrain_m", 7)
    assert wrap("pretrain_mae/epoch_1", width, 7) == "pretrain_\nmae/\nepoch_1"
    assert wrap("2 cos(target)", text_width("target)e", 7), 7) == "2 cos(\ntarget)"
    cut = wrap("one two three four five", width, 7, most=2).split("\n")
    assert cut[0] == "one two" and cut[1].startswith("three") and cut[1].endswith("…")
    assert text_width(cut[1], 7) <= width
    assert wrap("abcdefghijklmno", width, 7).replace("\n", "") == "abcdefghijklmno"


def test_no_two_classes_look_alike():
    looks = [class_look(i) for i in range(64)]
    assert len(set(looks)) == 64 and len({colour for colour, _ in looks[:8]}) == 8


@pytest.mark.parametrize("quantity", ["attention", "probability", "loss"])
def test_higher_values_are_lighter_also_without_colour(quantity: str):
    rgb = colour_map(quantity)(np.linspace(0, 1, 32))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > 0).all()
