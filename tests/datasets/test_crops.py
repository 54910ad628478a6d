"""Crops drawn before decoding: mmpretrain's boxes, Pillow's pixels, LoadImage's safety."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile, RandomFlip
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image
from scipy import ndimage

from milan_mm.datasets import crops
from milan_mm.datasets.crops import LoadRandomResizedCrop, decode_part, largest_reduction, resize
from milan_mm.datasets.decoding import decode
from milan_mm.datasets.jpeg import read_header
from milan_mm.engine.hooks.unreadable import UnreadableImagesHook

PRETRAINING = dict(scale=224, crop_ratio_range=(0.2, 1.0))


def photo(height: int, width: int, channels: int = 3) -> Image.Image:
    """Noise that is strong at low and weak at high frequencies, as photographs are."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(height, width, channels))
    layers = [blur * ndimage.gaussian_filter(noise, (blur, blur, 0)) for blur in (0.7, 2, 5, 12)]
    pixels = 128 + 50 * sum(layers) / np.std(sum(layers))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).squeeze())


def rotated(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A JPEG of 375 x 500 pixels, as most of ImageNet are."""
    photo(375, 500).save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def two_transforms(scale: int, **settings) -> Compose:
    """What the new transform replaces, from mmcv and mmpretrain."""
    crop = RandomResizedCrop(scale, backend="pillow", interpolation="bicubic", **settings)
    return Compose([LoadImageFromFile(), crop])


def load(transform: Callable[[dict], dict], path: Path, seed: int = 0) -> dict:
    np.random.seed(seed)  # noqa: NPY002 (the transforms draw from numpy's global state)
    return transform(dict(img_path=str(path)))


def difference(path: Path, seed: int = 0, **settings) -> np.ndarray:
    """Of the pixels, absolute, 0-255."""
    found = load(LoadRandomResizedCrop(**settings), path, seed)["img"]
    expected = load(two_transforms(**settings), path, seed)["img"]
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.uint8
    return np.abs(found.astype(int) - expected)


# Boxes


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (90, 900), (700, 800)])
def test_equal_random_numbers_give_mmpretrains_boxes(size, tmp_path, monkeypatch):
    photo(*size).save(tmp_path / "photo.jpg")
    boxes = []
    monkeypatch.setattr(crops, "decode_part", lambda *args: np.zeros((*size, 3), np.uint8))
    monkeypatch.setattr(crops, "largest_reduction", lambda crop, target: 1)
    monkeypatch.setattr(crops, "resize", lambda img, box, target: boxes.append(box) or img)
    transform, theirs = LoadRandomResizedCrop(**PRETRAINING), RandomResizedCrop(**PRETRAINING)
    for seed in range(100):
        load(transform, tmp_path / "photo.jpg", seed)
        np.random.seed(seed)  # noqa: NPY002
        assert boxes[-1] == list(theirs.rand_crop_params(np.empty(size)))
    assert len({tuple(box) for box in boxes}) > 90 or size == (90, 900)  # drawn, not fixed


def test_equal_random_numbers_give_mmcvs_flips(path: Path):
    """And the generator is left in the same state for what is drawn next."""
    transform = LoadRandomResizedCrop(**PRETRAINING, flip_prob=0.3)
    theirs = Compose([*two_transforms(**PRETRAINING).transforms, RandomFlip(prob=0.3)])
    flips = []
    for seed in range(40):
        found = load(transform, path, seed)
        after = np.random.random()  # noqa: NPY002
        expected = load(theirs, path, seed)
        assert after == np.random.random()  # noqa: NPY002
        assert (found["flip"], found["flip_direction"]) == (
            expected["flip"],
            expected["flip_direction"],
        )
        assert np.abs(found["img"].astype(int) - expected["img"]).mean() < 0.5
        flips.append(found["flip"])
    assert 0 < sum(flips) < len(flips)


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_so_many_images_are_mirrored(prob, path, monkeypatch):
    monkeypatch.setattr(crops, "decode_part", lambda *args: np.zeros((375, 500, 3), np.uint8))
    transform = LoadRandomResizedCrop(**PRETRAINING, flip_prob=prob)
    share = np.mean([load(transform, path, seed)["flip"] for seed in range(400)])
    assert abs(share - prob) <= 0.1  # four standard deviations


# Pixels


def test_pixels_are_those_of_pillow_up_to_rounding(path: Path):
    differences = np.stack([difference(path, seed, **PRETRAINING) for seed in range(10)])
    assert differences.max() <= 2
    assert differences.mean() < 0.5


def test_enlarged_crops_are_those_of_pillow_too(tmp_path: Path):
    photo(60, 50).save(tmp_path / "photo.jpg", quality=95)
    assert difference(tmp_path / "photo.jpg", scale=224).max() <= 2


def test_height_and_width_of_the_result_may_differ(path: Path):
    transform = LoadRandomResizedCrop(scale=(64, 96))
    results = load(transform, path)
    assert results["img"].shape == (64, 96, 3)
    assert results["img_shape"] == (64, 96) and results["ori_shape"] == (375, 500)


@pytest.mark.parametrize(
    ("crop", "reduction"),
    [((300, 300), 1), ((671, 2000), 1), ((672, 672), 2), ((1344, 1400), 4), ((9000, 9000), 8)],
)
def test_large_crops_are_decoded_smaller_but_not_too_small(crop, reduction):
    assert largest_reduction(crop, (224, 224)) == reduction


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_crop_of_a_reduced_image_has_the_same_place_and_nearly_the_same_pixels(
    reduction, tmp_path, monkeypatch
):
    side = int(100 * reduction * 1.5)
    photo(side + 33, side + 55).save(tmp_path / "photo.jpg", quality=95)
    used = []
    monkeypatch.setattr(
        crops, "decode_part", lambda *args: used.append(args[-1]) or decode_part(*args)
    )
    settings = dict(scale=64, crop_ratio_range=(0.8, 0.9), aspect_ratio_range=(1.0, 1.0))
    found = difference(tmp_path / "photo.jpg", **settings)
    assert used == [reduction]
    assert found.mean() < 1.5
    # one pixel beside it, the crop would differ by much more
    shifted = load(two_transforms(**settings), tmp_path / "photo.jpg")["img"].astype(int)
    assert np.abs(shifted[:, 1:] - shifted[:, :-1]).mean() > 4 * found.mean()


def test_a_box_between_pixels_is_resized_as_by_pillow():
    image = photo(100, 120)
    found = resize(np.array(image), (10.5, 20.25, 60.0, 70.5), (32, 40))
    box = (20.25, 10.5, 90.75, 70.5)
    # Pillow's filter sees pixels outside of the box, which a crop does not have
    expected = np.array(image.resize((40, 32), Image.Resampling.BICUBIC, box))
    assert np.abs(found.astype(int) - expected)[2:-2, 2:-2].max() <= 1


# Kinds of files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_orientation_is_applied_as_by_mmcv(orientation: int, tmp_path: Path):
    photo(400, 600).save(tmp_path / "photo.jpg", quality=95, exif=rotated(orientation))
    for scale, limit in ((96, 2.0), (300, 0.1)):  # reduced and not
        settings = dict(scale=scale, crop_ratio_range=(0.5, 0.6))
        assert difference(tmp_path / "photo.jpg", **settings).mean() < limit


@pytest.mark.parametrize(
    ("suffix", "mode"), [("png", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("webp", "RGB")]
)
def test_other_formats_and_grey_and_printed_images_work_as_with_mmcv(suffix, mode, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    settings = dict(lossless=True) if suffix == "webp" else dict(quality=95)
    photo(200, 300).convert(mode).save(path, **settings)
    assert difference(path, scale=96).mean() < 0.5


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_kinds_of_jpeg_give_the_pixels_of_mmcv(progressive, subsampling, tmp_path):
    path = tmp_path / "photo.jpg"
    photo(200, 300).save(path, progressive=progressive, subsampling=subsampling)
    assert difference(path, scale=96).mean() < 0.5


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_decoding_that_stops_early_gives_the_same_rows(subsampling, path, capfd):
    pytest.importorskip("simplejpeg")
    photo(375, 500).save(path, subsampling=subsampling)
    content = path.read_bytes()
    header = read_header(content)
    for bottom in (1, 17, 200, 374, 375):
        found = decode_part(content, header, bottom, reduction=1)
        assert bottom <= len(found) <= bottom + 16
        assert np.array_equal(found[:bottom], decode(content)[:bottom])
    assert capfd.readouterr() == ("", "")  # libjpeg would warn of the bytes that are left


@pytest.mark.parametrize("settings", [dict(progressive=True), dict(exif=rotated(3))])
def test_a_file_that_is_not_shown_row_by_row_is_decoded_whole(settings, path):
    photo(60, 80).save(path, **settings)
    content = path.read_bytes()
    assert decode_part(content, read_header(content), 10, reduction=1).shape == (60, 80, 3)


def test_without_the_optional_decoder_pixels_are_the_same(path, monkeypatch):
    pytest.importorskip("simplejpeg")
    transform = LoadRandomResizedCrop(**PRETRAINING)
    found = [load(transform, path, seed)["img"] for seed in range(5)]
    monkeypatch.setattr(crops, "simplejpeg", None)
    assert all(
        np.array_equal(img, load(transform, path, seed)["img"]) for seed, img in enumerate(found)
    )


def test_a_truncated_file_is_skipped_counted_and_named(path: Path):
    log = path.with_name("log.txt")
    MMLogger.get_instance("crops-truncated", log_file=str(log))
    broken = path.with_name("broken.jpg")
    broken.write_bytes(path.read_bytes()[:-2000])
    transform = LoadRandomResizedCrop(**PRETRAINING)
    transform.num_images.values[0] = 1000  # as in training
    assert load(transform, broken) is None
    assert load(transform, path) is not None
    assert transform.counts.values.sum(dim=0).tolist() == [2, 1]
    assert f"skipped unreadable image {broken}: " in log.read_text()


def test_the_hook_that_counts_unreadable_images_finds_the_transform():
    transform = LoadRandomResizedCrop(**PRETRAINING)
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[transform]))
    loader = SimpleNamespace(dataset=dataset)
    hook = UnreadableImagesHook()
    assert hook._transforms(SimpleNamespace(train_dataloader=loader)) == [transform]


def test_a_header_that_lies_is_an_unreadable_image(path: Path, monkeypatch: pytest.MonkeyPatch):
    turned = np.zeros((500, 375, 3), np.uint8)
    monkeypatch.setattr(crops, "decode_part", lambda *args: turned)
    with pytest.raises(
        ValueError, match=r"photo.jpg' cannot be read: its header says \(375, 500\)"
    ):
        load(LoadRandomResizedCrop(**PRETRAINING), path)
