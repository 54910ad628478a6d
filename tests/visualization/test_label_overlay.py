"""Labels over photos: colours, edges, and what stays visible."""

import numpy as np

from milan_mm.visualization.label_overlay import label_legend, overlay_labels

PALETTE = [(255, 0, 0), (0, 0, 255)]


def _drawn(plain=()) -> np.ndarray:
    """The left half has label 0, the right one 1; the last row is not labelled."""
    labels = np.zeros((8, 8), np.int64)
    labels[:, 4:] = 1
    labels[7] = 255
    return overlay_labels(np.full((8, 8, 3), 100, np.uint8), labels, PALETTE, plain)


def test_classes_are_blended_and_their_edges_white():
    drawn = _drawn()
    assert drawn[2, 1].tolist() == [178, 50, 50] and drawn[2, 6].tolist() == [50, 50, 178]
    assert drawn[2, 3].tolist() == [255] * 3
    assert drawn[7, 1].tolist() == [50] * 3


def test_a_plain_class_leaves_the_photo_as_it_is():
    drawn = _drawn(plain={0})
    assert drawn[2, 1].tolist() == [100] * 3 and drawn[2, 6].tolist() == [50, 50, 178]


def test_the_legend_has_the_colour_of_each_class_that_fits():
    palette = [(40 + 3 * i, 200 - 3 * i, i) for i in range(60)]
    for count, shown in ((5, 5), (11, 11), (23, 23), (60, 22)):
        names = [f"class {i}" for i in range(count)]
        legend = label_legend(names, palette, range(count), (), (320, 240))
        assert legend.shape == (240, 320, 3)
        colours = {tuple(c) for c in legend.reshape(-1, 3).tolist()}
        assert sum(colour in colours for colour in palette[:count]) == shown
