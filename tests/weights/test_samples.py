"""The sample files are in the layouts that they are named for, and always the same."""

from pathlib import Path

import pytest

from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder
from tests.weights import samples, zoo


def test_every_layout_has_a_sample():
    assert set(samples.OF_LAYOUTS.values()) == LAYOUTS.keys()


@pytest.mark.parametrize("system", samples.OF_LAYOUTS)
def test_a_sample_is_a_file_of_its_layout(system: str, tmp_path: Path):
    file = samples.write_sample(system, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    encoder = read_encoder(file, num_heads=zoo.HEADS)
    assert encoder.layout == samples.OF_LAYOUTS[system]
    assert encoder.settings["arch"]["num_heads"] == zoo.HEADS


@pytest.mark.parametrize("system", ["mae", "openai_clip", "hf_dinov2", "augreg_npz"])
def test_a_sample_is_the_same_each_time(system: str, tmp_path: Path):
    files = [samples.write_sample(system, tmp_path / name) for name in "ab"]
    assert file_sha256(files[0]) == file_sha256(files[1])
