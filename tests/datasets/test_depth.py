"""Depth maps: read in metres, or refused with the name of the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.datasets.depth import CropFrame, LoadDepth
from milan_mm.errors import UserError

SIZE = (24, 32)


def write(path: Path, values: np.ndarray) -> dict:
    """What a data set knows of an image of 24 x 32 pixels and this depth map."""
    Image.fromarray(values).save(path)
    return dict(depth_map_path=str(path), img_path="a.jpg", ori_shape=SIZE, seg_fields=[])


def test_a_depth_map_is_read_in_metres_and_what_is_too_far_is_none(tmp_path: Path):
    stored = np.full(SIZE, 2500, np.uint16)
    stored[0, :3] = 0, 12_000, 65_535
    results = LoadDepth(max_depth=10.0).transform(write(tmp_path / "d.png", stored))
    depth = results["gt_depth_map"]
    assert depth.dtype == np.float32 and results["seg_fields"] == ["gt_depth_map"]
    assert depth[0, :4].tolist() == [0, 0, 0, 2.5]


def _grey(path: Path) -> dict:
    return write(path, np.full(SIZE, 25, np.uint8))


def _colours(path: Path) -> dict:
    return write(path, np.zeros((*SIZE, 3), np.uint8))


def _smaller(path: Path) -> dict:
    return write(path, np.full((12, 32), 2500, np.uint16))


def _tenths(path: Path) -> dict:
    return write(path, np.full(SIZE, 25_000, np.uint16))


def _cut(path: Path) -> dict:
    sample = write(path, np.random.default_rng(0).integers(1, 9000, SIZE, np.uint16))
    path.write_bytes(path.read_bytes()[:200])
    return sample


def _missing(path: Path) -> dict:
    sample = _smaller(path)
    path.unlink()
    return sample


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_grey, "has values of uint8: depths are single-channel images of 16 bits"),
        (_colours, "has 3 channels: depths are single-channel images of 16 bits"),
        (_smaller, "has 32x12 pixels, its image 'a.jpg' has 32x24: give both one size"),
        (_tenths, "is farther than max_depth 10 m in 100% of its depths, at 1000 units in a metre"),
        (_cut, "cannot be read: "),
        (_missing, "image 'a.jpg' has no depth map"),
    ],
)
def test_what_is_not_a_depth_map_is_refused_by_name(
    make: Callable[[Path], dict], message: str, tmp_path: Path
):
    sample = make(tmp_path / "d.png")
    with pytest.raises(UserError, match=message) as caught:
        LoadDepth(max_depth=10.0).transform(sample)
    assert str(tmp_path / "d.png") in str(caught.value)


def test_training_skips_a_damaged_depth_map(tmp_path: Path):
    loader = LoadDepth(max_depth=10.0)
    loader.num_images.values.fill_(1000)
    assert loader.transform(_cut(tmp_path / "d.png")) is None


def test_an_inferencer_needs_no_depth_map():
    assert LoadDepth(max_depth=10.0).transform(dict(img_path="a.jpg")) == dict(img_path="a.jpg")


def test_the_frame_of_nyu_is_cut_from_image_and_depth_at_any_size():
    for factor in (1, 2):
        rows, columns = np.indices((480 * factor, 640 * factor))
        results = CropFrame().transform(dict(img=rows, depth=columns, seg_fields=["depth"]))
        assert results["img"][0, 0] == 45 * factor and results["img"][-1, 0] == 472 * factor - 1
        assert results["depth"][0, 0] == 43 * factor
        assert results["depth"][0, -1] == 608 * factor - 1
        assert results["img_shape"] == (427 * factor, 565 * factor)
