"""Colours of own classes."""

import numpy as np

from milan_mm.run.own_data.settings import metainfo


def test_every_class_has_a_colour_of_its_own():
    palette = metainfo([f"class {i}" for i in range(254)])["palette"]
    assert len(set(palette)) == 254
    assert np.min(palette) >= 0 and np.max(palette) <= 255


def test_neighbouring_classes_are_easy_to_tell_apart():
    palette = np.array(metainfo([f"class {i}" for i in range(30)])["palette"])
    assert np.abs(np.diff(palette, axis=0)).max(axis=1).min() > 100
