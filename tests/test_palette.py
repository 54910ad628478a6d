"""One rule says which colours classes have."""

import numpy as np
import pytest

from milan_mm.inference.classes import Classes
from milan_mm.palette import DISTINCT, class_palette, object_colours


def test_few_classes_have_colours_that_everybody_can_tell_apart_and_many_differ():
    assert class_palette(3) == object_colours([(220, 20, 60)] * 3) == list(DISTINCT[:3])
    assert len(set(class_palette(150))) == 150


@pytest.mark.parametrize("number", [2, 20])
def test_label_maps_have_the_palette_of_their_data_set(number: int):
    palette = [(9 * i, 2 * i, 255 - i) for i in range(number)]
    names = [f"class {i}" for i in range(number)]
    assert Classes.named("seg", names, palette).colours == palette
    assert Classes.named("seg", names, ()).colours == class_palette(number)


def test_colours_are_bytes():
    assert np.array(class_palette(300)).min() >= 0 and np.array(class_palette(300)).max() <= 255
