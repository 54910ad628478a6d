"""Labels are read as mmseg reads them, or an error names the file and what is wrong with it."""

import re
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image
from torch.utils.data import DataLoader

from milan_mm.datasets.labels import LoadLabels, label_table


def _write(folder: Path, values: np.ndarray, name: str = "label.png") -> str:
    Image.fromarray(values).save(folder / name)
    return str(folder / name)


def _sample(path: str, reduces: bool = False, **others) -> dict:
    sample = dict(seg_map_path=path, img_path="photo.jpg", reduce_zero_label=reduces)
    return sample | dict(label_map=None, seg_fields=[]) | others


def _values(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.uint8)


@pytest.mark.parametrize("reduces", [True, False])
@pytest.mark.parametrize("label_map", [None, {0: 2, 1: 255, 2: 0, 3: 1}])
def test_labels_are_those_of_mmseg(tmp_path: Path, reduces: bool, label_map: dict | None):
    values = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (30, 40)).astype(np.uint8)
    path = _write(tmp_path, values)
    ours, theirs = (
        transform.transform(_sample(path, reduces, label_map=label_map))
        for transform in (LoadLabels(num_classes=4), LoadAnnotations())
    )
    assert ours.keys() == theirs.keys()
    assert ours["seg_fields"] == theirs["seg_fields"] == ["gt_seg_map"]
    assert ours["gt_seg_map"].dtype == theirs["gt_seg_map"].dtype == np.uint8
    assert (ours["gt_seg_map"] == theirs["gt_seg_map"]).all()


@pytest.mark.parametrize("reduces", [True, False])
def test_the_table_is_the_rule_value_by_value(reduces: bool):
    table = label_table(reduces, {4: 0, 5: 255})
    for stored, label in enumerate(table.tolist()):
        expected = stored
        if reduces:
            expected = 255 if stored in (0, 255) else stored - 1
        assert label == {4: 0, 5: 255}.get(expected, expected)


def test_a_palette_image_is_read_as_its_numbers(tmp_path: Path):
    image = Image.fromarray(_values(0, 1, 2), "P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "palette.png")
    results = LoadLabels(3).transform(_sample(str(tmp_path / "palette.png")))
    assert results["gt_seg_map"].tolist() == [[0, 1, 2]]


def test_small_values_may_be_stored_in_sixteen_bits_or_in_one(tmp_path: Path):
    wide = _write(tmp_path, _values(0, 1, 255).astype(np.uint16))
    assert LoadLabels(2).transform(_sample(wide))["gt_seg_map"].tolist() == [[0, 1, 255]]
    narrow = _write(tmp_path, _values(0, 1).astype(bool))
    assert LoadLabels(2).transform(_sample(narrow))["gt_seg_map"].tolist() == [[0, 1]]


def test_an_image_of_one_row_keeps_its_two_dimensions(tmp_path: Path):
    path = _write(tmp_path, _values(0, 1, 1, 0))
    assert LoadLabels(2).transform(_sample(path))["gt_seg_map"].shape == (1, 4)


@pytest.mark.parametrize(
    ("values", "reduces", "message"),
    [
        (
            _values(0, 151, 200),
            True,
            "holds 151, 200; allowed are 1..150 for the 150 classes, 0 an",
        ),
        (
            _values(0, 150),
            False,
            "holds 150; allowed are 0..149 for the 150 classes, 255 for pixel",
        ),
        (
            _values(0, 150),
            False,
            "if 0 stands for pixels without label, set reduce_zero_label=True",
        ),
        (_values(1).astype(np.uint16) * 256, False, "holds 256; allowed are 0..149"),
        (np.zeros((2, 2, 3), np.uint8), True, "has 3 channels: labels are single-channel images"),
        (np.zeros((2, 2, 2), np.uint8), True, "has 2 channels: labels are single-channel images"),
    ],
)
def test_values_that_no_class_has_are_named(tmp_path: Path, values, reduces: bool, message: str):
    path = _write(tmp_path, values)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        LoadLabels(150).transform(_sample(path, reduces))
    assert path in str(error.value)


def test_fractional_labels_are_named(tmp_path: Path):
    path = _write(tmp_path, np.ones((2, 2), np.float32), "label.tiff")
    with pytest.raises(ValueError, match=r"label\.tiff' has values of type float32: save it with"):
        LoadLabels(150).transform(_sample(path))


def test_classes_that_were_left_out_are_no_error_but_unknown_values_are(tmp_path: Path):
    loader = LoadLabels(1)
    chosen = dict(label_map={0: 255, 1: 0})
    results = loader.transform(_sample(_write(tmp_path, _values(0, 1, 255)), **chosen))
    assert results["gt_seg_map"].tolist() == [[255, 0, 255]]
    with pytest.raises(ValueError, match="holds 2; allowed are"):
        loader.transform(_sample(_write(tmp_path, _values(0, 1, 2)), **chosen))


def test_a_label_of_another_size_than_its_image_is_named(tmp_path: Path):
    path = _write(tmp_path, np.zeros((30, 40), np.uint8))
    with pytest.raises(ValueError, match=r"has 40x30 pixels, its image 'photo.jpg' has 40x31: gi"):
        LoadLabels(150).transform(_sample(path, ori_shape=(31, 40)))


def test_an_image_without_label_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"image 'photo.jpg' has no label file '.*gone.png"):
        LoadLabels(150).transform(_sample(str(tmp_path / "gone.png")))


def test_a_damaged_label_is_named(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)
    path = Path(_write(tmp_path, values))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"label\.png' cannot be read: .*; repair it, or remove"):
        LoadLabels(150).transform(_sample(str(path)))


def test_an_error_in_a_worker_process_still_names_the_file(tmp_path: Path):
    path = _write(tmp_path, _values(0, 200))

    class Labels:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> np.ndarray:
            return LoadLabels(150).transform(_sample(path))["gt_seg_map"]

    with pytest.raises(ValueError, match=r"label\.png' holds 200; allowed are 0\.\.149"):
        next(iter(DataLoader(Labels(), num_workers=1)))


@pytest.mark.parametrize("num_classes", [0, 256])
def test_a_number_of_classes_that_eight_bits_cannot_hold_is_refused(num_classes: int):
    with pytest.raises(ValueError, match=rf"num_classes {num_classes} is outside 1\.\.255"):
        LoadLabels(num_classes)
