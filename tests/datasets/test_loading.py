"""A broken image costs one sample and is counted; many of them stop the run."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import DataLoader

from milan_mm.datasets import loading
from milan_mm.datasets.loading import LoadImage
from milan_mm.engine.hooks.unreadable import UnreadableImagesHook


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A smooth JPEG of 60 x 40 pixels."""
    rows, cols = np.mgrid[:40, :60]
    pixels = np.stack([rows * 6, cols * 4, rows + cols], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def _damage(photo: Path, kind: str) -> Path:
    content = photo.read_bytes()
    damaged = photo.with_name(f"{kind}.jpg")
    if kind == "truncated":
        damaged.write_bytes(content[: len(content) // 2])
    elif kind == "png":
        Image.open(photo).save(damaged, "png")
        damaged.write_bytes(damaged.read_bytes()[:-200])
    elif kind == "empty":
        damaged.touch()
    elif kind == "text":
        damaged.write_text("<html>404</html>")
    return damaged  # 'missing' is not written


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("color_type", ["color", "grayscale"])
def test_a_whole_image_reads_as_by_mmcv(photo: Path, suffix: str, color_type: str):
    path = photo.with_suffix(f".{suffix}")
    if suffix != "jpg":
        Image.open(photo).save(path, lossless=True)
    ours = LoadImage(color_type=color_type).transform(dict(img_path=str(path)))
    theirs = LoadImageFromFile(color_type=color_type).transform(dict(img_path=str(path)))
    assert ours.keys() == theirs.keys()
    assert ours["img_shape"] == ours["ori_shape"] == theirs["img_shape"] == (40, 60)
    assert ours["img"].dtype == np.uint8
    # grey levels may be rounded differently
    assert np.abs(ours["img"].astype(int) - theirs["img"]).max() <= 1


def test_a_jpeg_with_trailing_bytes_is_whole(photo: Path):
    whole = LoadImage().transform(dict(img_path=str(photo)))["img"]
    for extra in (b"\0" * 100, b"maker's notes"):
        padded = photo.with_name("padded.jpg")
        padded.write_bytes(photo.read_bytes() + extra)
        pixels = LoadImage().transform(dict(img_path=str(padded)))["img"]
        assert np.abs(pixels.astype(int) - whole).max() <= 4  # two JPEG decoders


def test_float_images_keep_their_values(photo: Path):
    img = LoadImage(to_float32=True).transform(dict(img_path=str(photo)))["img"]
    assert img.dtype == np.float32 and img.max() > 100


@pytest.mark.parametrize("kind", ["truncated", "png", "empty", "text", "missing"])
def test_a_broken_file_is_skipped_counted_and_named(photo: Path, kind: str):
    log = photo.with_name("log.txt")
    MMLogger.get_instance(f"loading-{kind}", log_file=str(log))
    transform, path = LoadImage(), _damage(photo, kind)
    transform.num_images.values[0] = 1000  # as in training
    assert transform.transform(dict(img_path=str(path))) is None
    assert transform.transform(dict(img_path=str(photo))) is not None
    assert transform.counts.values.sum(dim=0).tolist() == [2, 1]
    assert log.read_text().count(f"skipped unreadable image {path}: ") == 1


@pytest.mark.parametrize("kind", ["truncated", "missing"])
def test_an_evaluation_stops_at_a_broken_file_and_names_it(photo: Path, kind: str):
    path = _damage(photo, kind)
    with pytest.raises(ValueError, match=rf"{path.name}' cannot be read: .*repair or remove it"):
        LoadImage().transform(dict(img_path=str(path)))


class _Photos(BaseDataset):
    """Twenty times the same photo; the first of them is broken."""

    def load_data_list(self) -> list[dict]:
        names = ["truncated.jpg"] + 19 * ["photo.jpg"]
        return [dict(img_path=str(Path(self.data_root, name))) for name in names]


@pytest.fixture
def loader(photo: Path) -> DataLoader:
    _damage(photo, "truncated")
    dataset = _Photos(data_root=str(photo.parent), pipeline=[dict(type="milan_mm.LoadImage")])
    dataset.pipeline.transforms[0].num_images.values[0] = 1000  # as in training
    # a copy must count into the same table
    return DataLoader(copy.deepcopy(dataset), batch_size=4, num_workers=2, collate_fn=list)


def test_the_data_set_draws_another_sample_and_workers_count_together(loader: DataLoader):
    samples = [sample for batch in loader for sample in batch]
    assert len(samples) == 20
    assert not any("truncated" in sample["img_path"] for sample in samples)
    (transform,) = loader.dataset.pipeline.transforms
    reads, failures = transform.counts.values.sum(dim=0).tolist()
    assert reads == 20 + failures and failures >= 1


def _runner(loader: DataLoader, **settings) -> SimpleNamespace:
    return SimpleNamespace(train_dataloader=loader, iter=0, **settings)


def test_more_failures_than_the_limit_stop_the_run_with_the_numbers(loader: DataLoader):
    list(loader)
    with pytest.raises(ValueError, match=r"of \d+ images could not be read, the limit is 1%"):
        UnreadableImagesHook(interval=1).after_train_iter(_runner(loader), 0)


def test_a_worker_stops_at_once_when_it_knows_the_size_of_the_data_set(loader: DataLoader):
    UnreadableImagesHook().before_train(_runner(loader))
    with pytest.raises(ValueError, match=r"1 of \d+ images could not be read"):
        list(loader)


def test_few_failures_are_reported_at_the_end(loader: DataLoader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "MAX_FAILED_SHARE", 0.5)
    warnings: list[str] = []
    list(loader)
    UnreadableImagesHook().after_train(
        _runner(loader, logger=SimpleNamespace(warning=warnings.append))
    )
    assert len(warnings) == 1 and "reads of images failed" in warnings[0]
