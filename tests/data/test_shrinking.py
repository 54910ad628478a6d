"""Smaller copies of an image folder: same names, same picture, fewer bytes, nothing lost."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset, RandomResizedCrop
from PIL import Image
from scipy import ndimage, stats

from milan_mm.data import shrinking
from milan_mm.data.loading import decode
from milan_mm.data.shrinking import Settings, shrink, shrink_folder


def photo(height: int, width: int) -> Image.Image:
    """Soft noise, brighter to the right and to the bottom."""
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    soft = ndimage.gaussian_filter(noise, (4, 4, 0))
    slope = np.add(*np.mgrid[:height, :width])[..., None] / (height + width)
    return Image.fromarray((60 + 120 * slope + 200 * soft).clip(0, 255).astype(np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes, a file list, a label map, a damaged image."""
    source = tmp_path / "source"
    for name, size in (("cat/0.JPEG", (90, 120)), ("cat/1.jpg", (120, 90)), ("dog/2.JPEG", (20, 30))):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        photo(*size).save(source / name, "JPEG", quality=95)
    (source / "dog/3.JPEG").write_bytes((source / "cat/0.JPEG").read_bytes()[:900])
    Image.fromarray(np.eye(90, dtype=np.uint8)).save(source / "cat/labels.png")
    (source / "list.txt").write_text("cat/0.JPEG 0\n")
    return source


def settings(source: Path, short_side: int = 60, quality: int = 90) -> Settings:
    return Settings(str(source), short_side, quality)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    found.pop("shrunk.json", None)
    return found


def test_large_images_get_the_shorter_side_and_keep_their_picture(source: Path, tmp_path: Path):
    shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    for name, size in (("cat/0.JPEG", (60, 80)), ("cat/1.jpg", (80, 60))):
        image = Image.open(source / name).resize(size[::-1], Image.Resampling.BICUBIC)
        image.save(tmp_path / "pillow.jpg", quality=90)
        copy, reference = (
            np.asarray(Image.open(path), np.int16)
            for path in (tmp_path / "target" / name, tmp_path / "pillow.jpg")
        )
        assert copy.shape == (*size, 3)
        assert np.abs(copy - reference).mean() < 0.5  # both resize with rounding of their own


def test_smaller_images_keep_their_size(source: Path, tmp_path: Path):
    shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    assert Image.open(tmp_path / "target/dog/2.JPEG").size == (30, 20)


def test_every_file_has_a_copy_and_only_jpegs_change(source: Path, tmp_path: Path):
    report = shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    before, after = contents(source), contents(tmp_path / "target")
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"cat/0.JPEG", "cat/1.jpg", "dog/2.JPEG"}
    assert "3 files are smaller, 3 unchanged, 0 were there before" in report


def test_a_damaged_image_is_copied_and_named(source: Path, tmp_path: Path):
    report = shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    assert "1 images cannot be read and were copied as they are" in report
    assert "dog/3.JPEG: " in report
    assert (tmp_path / "target/dog/3.JPEG").read_bytes() == (source / "dog/3.JPEG").read_bytes()


def test_processes_write_the_same_copies(source: Path, tmp_path: Path):
    for number in (0, 2):
        shrink_folder(tmp_path / str(number), settings(source), num_workers=number)
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_an_interrupted_run_goes_on_where_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shrunk = []

    def stop_at_the_second(content: bytes, *numbers: int) -> bytes:
        if len(shrunk) == 1:
            raise KeyboardInterrupt
        shrunk.append(content)
        return shrink(content, *numbers)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shrinking, "shrink", stop_at_the_second)
        shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    assert len(contents(tmp_path / "target")) == 1
    assert "1 were there before" in shrink_folder(tmp_path / "target", settings(source), 0)
    shrink_folder(tmp_path / "at once", settings(source), num_workers=0)
    assert contents(tmp_path / "target") == contents(tmp_path / "at once")


def test_copies_of_other_settings_or_folders_do_not_mix(source: Path, tmp_path: Path):
    shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    for other in (settings(source, short_side=50), settings(source, quality=80)):
        with pytest.raises(ValueError, match="was begun with .*'short_side': 60, 'quality': 90"):
            shrink_folder(tmp_path / "target", other, num_workers=0)
    with pytest.raises(ValueError, match="was begun with .*name a new folder"):
        shrink_folder(tmp_path / "target", settings(source / "cat"), num_workers=0)


@pytest.mark.parametrize("target", ["source", "source/copies", "."])
def test_overlapping_folders_are_refused(source: Path, tmp_path: Path, target: str):
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="overlap: name a folder elsewhere"):
        shrink_folder(tmp_path / target, settings(source), num_workers=0)
    assert contents(tmp_path) == before


def test_a_folder_with_something_else_in_it_is_refused(source: Path, tmp_path: Path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="target' is not empty: name a new folder"):
        shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    assert contents(tmp_path / "target") == {"mine.txt": b"kept"}


def test_a_folder_without_images_is_refused(source: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'.*empty' has no file that ends in .jpg or .jpeg"):
        shrink_folder(tmp_path / "target", settings(tmp_path / "empty"), num_workers=0)
    with pytest.raises(FileNotFoundError, match="none' does not exist: correct SOURCE"):
        shrink_folder(tmp_path / "target", settings(tmp_path / "none"), num_workers=0)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (dict(short_side=0), "--short-side 0: give 1 pixel or more"),
        (dict(quality=101), r"--quality 101 is outside 1\.\.100: choose one inside"),
    ],
)
def test_impossible_settings_are_refused(numbers: dict, message: str):
    with pytest.raises(ValueError, match=message):
        settings(Path("source"), **numbers)


def test_a_full_disk_is_an_error_that_says_how_to_go_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"no space left for .*0\.JPEG': make room and run it again"):
        shrink_folder(tmp_path / "target", settings(source), num_workers=0)


def test_a_copy_is_upright_without_the_tag_that_turns_it(tmp_path: Path):
    tags = Image.Exif()
    tags[0x0112] = 6  # shown turned by a quarter
    photo(90, 120).save(tmp_path / "turned.jpg", quality=95, exif=tags)
    content = (tmp_path / "turned.jpg").read_bytes()
    (tmp_path / "copy.jpg").write_bytes(shrink(content, short_side=60, quality=90))
    copy = Image.open(tmp_path / "copy.jpg")
    assert not copy.getexif()
    assert copy.size == (60, 80)
    assert decode(content).shape[:2] == (120, 90)


def test_a_file_that_would_grow_is_kept(tmp_path: Path):
    photo(60, 80).save(tmp_path / "coarse.jpg", quality=20)
    content = (tmp_path / "coarse.jpg").read_bytes()
    assert shrink(content, short_side=60, quality=95) == content


def test_mmpretrain_finds_the_same_images_and_classes_in_the_copies(source: Path, tmp_path: Path):
    (source / "dog/3.JPEG").unlink()
    shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    original, copies = (
        CustomDataset(data_root=str(root), lazy_init=False) for root in (source, tmp_path / "target")
    )
    assert original.CLASSES == copies.CLASSES == ("cat", "dog")
    paths = [Path(copies.get_data_info(i)["img_path"]) for i in range(len(copies))]
    assert [str(p.relative_to(tmp_path / "target")) for p in paths] == [
        str(Path(original.get_data_info(i)["img_path"]).relative_to(source))
        for i in range(len(original))
    ]


def test_crops_of_copies_are_distributed_as_those_of_the_originals():
    draws = {}
    for size in ((375, 500), (320, 427)):
        np.random.seed(0)  # noqa: NPY002 (the transform draws from numpy's global state)
        cropper = RandomResizedCrop(224, (0.2, 1.0))
        image = SimpleNamespace(shape=size)
        boxes = np.array([cropper.rand_crop_params(image) for _ in range(4000)])
        draws[size] = boxes / np.tile(size, 2)  # shares of height and width
    for values in zip(*(draw.T for draw in draws.values()), strict=True):
        assert stats.ks_2samp(*values).statistic < 0.03


def test_the_record_tells_what_the_copies_are(source: Path, tmp_path: Path):
    shrink_folder(tmp_path / "target", settings(source), num_workers=0)
    record = json.loads((tmp_path / "target/shrunk.json").read_text())
    assert record == dict(source=str(source), short_side=60, quality=90)
