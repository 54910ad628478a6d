"""Smaller copies of an image folder: same names, same picture, fewer bytes, nothing lost."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import cv2
import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image, JpegImagePlugin
from scipy import ndimage, stats

from milan_mm import files
from milan_mm.datasets.crops import LoadRandomResizedCrop
from milan_mm.datasets.decoding import decode
from milan_mm.upkeep import shrink as shrinking
from milan_mm.upkeep.parallel import CHUNK
from milan_mm.upkeep.shrink import ShrinkSettings, copy_file, encode, shrink_folder


def photo(height: int, width: int) -> Image.Image:
    """Soft noise, brighter to the right and to the bottom."""
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    soft = ndimage.gaussian_filter(noise, (4, 4, 0))
    slope = np.add(*np.mgrid[:height, :width])[..., None] / (height + width)
    return Image.fromarray((60 + 120 * slope + 200 * soft).clip(0, 255).astype(np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes, a file list, a label map."""
    source = tmp_path / "source"
    sizes = {"cat/0.JPEG": (90, 120), "cat/1.jpg": (120, 90), "dog/2.JPEG": (20, 30)}
    for name, size in sizes.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        photo(*size).save(source / name, "JPEG", quality=95)
    Image.fromarray(np.eye(90, dtype=np.uint8)).save(source / "cat/labels.png")
    (source / "list.txt").write_text("cat/0.JPEG 0\n")
    return source


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def settings(source: Path, short_side: int = 60, quality: int = 90, **others) -> ShrinkSettings:
    return ShrinkSettings(source, short_side, quality, **others)


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but the record."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    found.pop(".shrink_images.json", None)
    return found


def test_large_images_get_the_shorter_side_and_keep_their_picture(source, target, tmp_path):
    shrink_folder(target, settings(source), num_workers=0)
    for name, size in (("cat/0.JPEG", (60, 80)), ("cat/1.jpg", (80, 60))):
        image = Image.open(source / name).resize(size[::-1], Image.Resampling.BICUBIC)
        image.save(tmp_path / "pillow.jpg", quality=90)
        copy, reference = (
            np.asarray(Image.open(path), np.int16)
            for path in (target / name, tmp_path / "pillow.jpg")
        )
        assert copy.shape == (*size, 3)
        assert np.abs(copy - reference).mean() < 0.5  # both resize with rounding of their own


def test_smaller_images_keep_their_size(source, target):
    shrink_folder(target, settings(source), num_workers=0)
    assert Image.open(target / "dog/2.JPEG").size == (30, 20)


def test_every_file_has_a_copy_and_only_jpegs_change(source, target):
    report = shrink_folder(target, settings(source), num_workers=0)
    before, after = contents(source), contents(target)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"cat/0.JPEG", "cat/1.jpg", "dog/2.JPEG"}
    assert "3 files are smaller, 2 unchanged, 0 were there before" in report.text
    assert report.complete


def test_quality_and_subsampling_are_those_asked_for(source, target):
    name = "cat/0.JPEG"
    coarse, fine = target / "coarse", target / "fine"
    small = copy_file(name, coarse, settings(source, quality=50)).after
    large = copy_file(name, fine, settings(source, quality=90, subsampling="444")).after
    assert small < large / 2
    for folder, subsampling in ((coarse, 2), (fine, 0)):  # Pillow's numbers of 4:2:0 and 4:4:4
        assert JpegImagePlugin.get_sampling(Image.open(folder / name)) == subsampling


def test_images_that_cannot_be_read_are_named_until_they_are_repaired(source, target):
    whole = (source / "cat/0.JPEG").read_bytes()
    (source / "dog/3.JPEG").write_bytes(whole[:900])
    for _ in range(2):
        report = shrink_folder(target, settings(source), num_workers=0)
        assert not report.complete
        assert "not copied, since they cannot be read: 1\n  dog/3.JPEG: " in report.text
        assert not (target / "dog/3.JPEG").exists()
    (source / "dog/3.JPEG").write_bytes(whole)
    assert shrink_folder(target, settings(source), num_workers=0).complete
    assert (target / "dog/3.JPEG").read_bytes() == (target / "cat/0.JPEG").read_bytes()


def test_a_file_that_the_system_cannot_read_does_not_stop_the_others(source, target, monkeypatch):
    open_file = files.open_regular

    def open_or_fail(path: Path) -> BinaryIO:
        if Path(path).name == "0.JPEG":
            raise OSError(5, "Input/output error", str(path))
        return open_file(path)

    monkeypatch.setattr(files, "open_regular", open_or_fail)
    report = shrink_folder(target, settings(source), num_workers=0)
    assert "cat/0.JPEG: Input/output error" in report.text
    assert (target / "dog/2.JPEG").exists()


def test_the_list_of_unreadable_images_is_short(source, target):
    for i in range(7):
        (source / f"dog/bad-{i}.jpg").write_bytes(b"no image")
    text = shrink_folder(target, settings(source), num_workers=0).text
    assert "since they cannot be read: 7" in text and "and 2 more" in text
    assert "bad-4.jpg" in text and "bad-5.jpg" not in text


def test_a_lack_of_memory_is_not_taken_for_a_damaged_image(source, target, monkeypatch):
    def decode_too_much(content: bytes) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(shrinking, "decode", decode_too_much)
    with pytest.raises(MemoryError):
        shrink_folder(target, settings(source), num_workers=0)


def test_several_processes_write_what_one_writes(source, target, tmp_path):
    for i in range(2 * CHUNK):  # more than one process takes at a time
        photo(30, 40 + i).save(source / f"dog/{i}.JPEG", quality=95)
    shrink_folder(target, settings(source), num_workers=0)
    shrink_folder(tmp_path / "parallel", settings(source), num_workers=2)
    assert contents(target) == contents(tmp_path / "parallel")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_full_disk_is_an_error_that_names_the_file(source, target, monkeypatch, num_workers):
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/target/cat/0\.JPEG'"):
        shrink_folder(target, settings(source), num_workers=num_workers)
    assert not contents(target)


def test_an_interrupted_run_goes_on_where_it_was(source, target, tmp_path, monkeypatch):
    encoded = []

    def stop_at_the_second(*arguments) -> bytes:
        if encoded:
            raise KeyboardInterrupt
        encoded.append(encode(*arguments))
        return encoded[0]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shrinking, "encode", stop_at_the_second)
        shrink_folder(target, settings(source), num_workers=0)
    assert len(contents(target)) == 1
    assert "1 were there before" in shrink_folder(target, settings(source), 0).text
    shrink_folder(tmp_path / "at once", settings(source), num_workers=0)
    assert contents(target) == contents(tmp_path / "at once")


def test_an_image_that_changed_or_was_left_empty_is_copied_again(source, target):
    shrink_folder(target, settings(source), num_workers=0)
    expected = contents(target)
    (target / "cat/0.JPEG").write_bytes(b"")  # by a power failure
    copied = (target / "dog/2.JPEG").stat().st_mtime
    photo(90, 120).save(source / "dog/2.JPEG", quality=95)
    os.utime(source / "dog/2.JPEG", (copied + 1, copied + 1))
    assert "3 were there before" in shrink_folder(target, settings(source), 0).text
    assert contents(target) == expected | {"dog/2.JPEG": expected["cat/0.JPEG"]}


def test_copies_of_other_settings_or_folders_do_not_mix(source, target):
    shrink_folder(target, settings(source), num_workers=0)
    others = dict(short_side=50), dict(quality=80), dict(subsampling="444")
    for other in others:
        with pytest.raises(ValueError, match=r"was begun with .*'short_side': 60, 'quality': 90"):
            shrink_folder(target, settings(source, **other), num_workers=0)
    with pytest.raises(ValueError, match=r"was begun with .*name a new folder"):
        shrink_folder(target, settings(source / "cat"), num_workers=0)
    (target / ".shrink_images.json").write_text("{")
    with pytest.raises(ValueError, match="target' was begun with something else"):
        shrink_folder(target, settings(source), num_workers=0)


@pytest.mark.parametrize("target", ["source", "source/copies", ".", "linked/copies"])
def test_overlapping_folders_are_refused(source, tmp_path, target):
    (tmp_path / "linked").mkdir()
    photo(30, 40).save(tmp_path / "linked/5.jpg")
    (source / "bird").symlink_to(tmp_path / "linked")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="overlap: name a folder elsewhere"):
        shrink_folder(tmp_path / target, settings(source), num_workers=0)
    assert contents(tmp_path) == before


def test_a_target_with_something_else_in_it_is_refused(source, target):
    target.mkdir()
    (target / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="target' is not empty: name a new folder"):
        shrink_folder(target, settings(source), num_workers=0)
    assert contents(target) == {"mine.txt": b"kept"}
    with pytest.raises(FileExistsError, match=r"mine.txt' is not a folder: name a new one"):
        shrink_folder(target / "mine.txt", settings(source), num_workers=0)


def test_images_with_annotations_are_refused(source, target):
    (source / "annotations").mkdir()
    (source / "annotations/boxes.json").write_text("{}")
    with pytest.raises(ValueError, match=r"'annotations/boxes.json': boxes and label maps do not"):
        shrink_folder(target, settings(source), num_workers=0)
    assert not target.exists()


def test_a_folder_without_images_is_refused(source, target, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("empty", r"empty' has no file that ends in .jpg or .jpeg"),
        ("none", "none' does not exist: correct SOURCE"),
        ("source/list.txt", "list.txt' is not a folder: correct SOURCE"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            shrink_folder(target, settings(tmp_path / name), num_workers=0)
    assert not target.exists()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (dict(short_side=0), "--short-side 0: give 1 pixel or more"),
        (dict(quality=101), r"--quality 101 is outside 1\.\.100: choose one inside"),
        (dict(subsampling="411"), "--subsampling 411: choose from 420, 444"),
    ],
)
def test_impossible_settings_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        settings(Path("source"), **numbers)


def test_a_copy_is_upright_without_the_tag_that_turns_it(source, target):
    tags = Image.Exif()
    tags[0x0112] = 6  # shown turned by a quarter
    photo(90, 120).save(source / "turned.jpg", quality=95, exif=tags)
    assert copy_file("turned.jpg", target, settings(source)).outcome == "smaller"
    copy = Image.open(target / "turned.jpg")
    assert not copy.getexif()
    assert copy.size == (60, 80)
    assert decode((source / "turned.jpg").read_bytes()).shape[:2] == (120, 90)


def test_a_file_that_would_grow_is_kept(source, target):
    photo(60, 80).save(source / "coarse.jpg", quality=20)
    assert copy_file("coarse.jpg", target, settings(source, quality=95)).outcome == "unchanged"
    assert (target / "coarse.jpg").read_bytes() == (source / "coarse.jpg").read_bytes()


def test_an_image_that_no_jpeg_can_hold_is_kept(source, target):
    Image.new("RGB", (70_000, 1)).save(source / "wide.jpg", "PNG")
    assert copy_file("wide.jpg", target, settings(source)).outcome == "unchanged"
    assert (target / "wide.jpg").read_bytes() == (source / "wide.jpg").read_bytes()


def test_mmpretrain_finds_the_same_images_and_classes_in_the_copies(source, target):
    shrink_folder(target, settings(source), num_workers=0)
    original, copies = (
        CustomDataset(data_root=str(root), lazy_init=False) for root in (source, target)
    )
    assert original.CLASSES == copies.CLASSES == ("cat", "dog")
    paths = [Path(copies.get_data_info(i)["img_path"]) for i in range(len(copies))]
    assert [path.relative_to(target) for path in paths] == [
        Path(original.get_data_info(i)["img_path"]).relative_to(source)
        for i in range(len(original))
    ]


def test_crops_of_a_copy_are_distributed_as_those_of_its_original(source, target):
    photo(375, 500).save(source / "photo.jpg", quality=95)
    copy_file("photo.jpg", target, settings(source, short_side=320))
    transform = LoadRandomResizedCrop(224, (0.2, 1.0))
    draws = []
    for folder in (source, target):
        np.random.seed(0)  # noqa: NPY002 (the transform draws from numpy's global state)
        size = cv2.imread(str(folder / "photo.jpg")).shape[:2]
        image = SimpleNamespace(shape=size)
        boxes = [transform.cropper.rand_crop_params(image) for _ in range(4000)]
        draws.append(np.array(boxes) / np.tile(size, 2))  # as shares of height and width
    for numbers in zip(*(draw.T for draw in draws), strict=True):
        assert stats.ks_2samp(*numbers).statistic < 0.03


def test_the_record_tells_what_the_copies_are(source, target):
    shrink_folder(target, settings(source), num_workers=0)
    record = json.loads((target / ".shrink_images.json").read_text())
    assert record == dict(source=str(source), short_side=60, quality=90, subsampling="420")


def test_what_is_not_a_file_is_named_and_not_left_out(source, target):
    photo(60, 60).save(source / "photo.jpg")
    (source / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(ValueError, match=r"gone\.jpg' is not a file"):
        shrink_folder(target, settings(source), num_workers=0)
