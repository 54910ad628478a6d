"""Images of a folder: drawn by class, encoded once, and left out where they cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.features import pool
from milan_mm.look import gallery as gallery_module
from milan_mm.look.gallery import draw_classes, encode_gallery, find_gallery
from milan_mm.look.images import Photo, as_input, read_photos
from milan_mm.look.systems import read_systems
from tests.helpers import save_state, tiny_vit
from tests.look.conftest import write_classes


def encoded(shown, found, cache):
    return encode_gallery(shown, found, [32], cache, workers=0)


def test_classes_are_the_folders_of_the_split(tmp_path: Path):
    write_classes(tmp_path / "data/val", 2)
    for data in (tmp_path / "data", tmp_path / "data/val"):
        found = find_gallery(data, "val", needs_labels=True)
        assert found.classes == ("blue", "green", "red")
        assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert found.path(3) == tmp_path / "data/val/green/1.png"


def test_splits_are_not_taken_for_classes(tmp_path: Path):
    for name in ("train", "test"):
        write_classes(tmp_path / "data" / name, 1)
    with pytest.raises(UserError, match=r"no folder val or .* 'train': pass --split train"):
        find_gallery(tmp_path / "data", "val", needs_labels=True)
    (tmp_path / "vehicles").mkdir()
    vehicles = write_classes(tmp_path / "vehicles", 1, dict(bus=(0, 0, 9), train=(9, 0, 0)))
    assert find_gallery(vehicles, "val", needs_labels=True).classes == ("bus", "train")


def test_a_seed_settles_classes_and_images(tmp_path: Path):
    found = find_gallery(write_classes(tmp_path / "data", 5), "val", needs_labels=True)
    first, again, other = (draw_classes(found, 2, 3, seed) for seed in (0, 0, 3))
    assert first.names == again.names != other.names
    assert len(first) == 6 and first.classes in (
        ("blue", "green"),
        ("blue", "red"),
        ("green", "red"),
    )
    for name, label in zip(first.names, first.labels, strict=True):
        assert name.startswith(first.classes[label])


def test_the_feature_is_what_the_systems_own_classification_takes(tmp_path: Path):
    found = find_gallery(write_classes(tmp_path / "data", 1), "val", needs_labels=True)
    file = str(save_state(tiny_vit().state_dict(), tmp_path))
    for system, feature in (("DINO", "cls_token"), ("MAE", "avg")):
        shown = read_systems([file], system=system, num_heads=4)
        (features,), _ = encoded(shown, found, tmp_path / "cache")
        (photo,) = read_photos([found.path(0)])
        middle = Photo(photo.path, photo.pixels[2:37, 7:42])  # about 7/8 of the short side
        pixels = gallery_module._Images(found, 32)[0]["inputs"].numpy().transpose(1, 2, 0)
        assert abs(pixels[..., ::-1].mean() - middle.pixels.mean()) < 2
        (tokens,) = shown[0].vit(as_input(pixels[None, ..., ::-1].copy(), "imagenet", "cpu"))
        wanted = torch.nn.functional.normalize(pool(shown[0].vit, tokens, feature), dim=1)
        torch.testing.assert_close(features[:1], wanted, atol=1e-5, rtol=0)


def test_features_are_computed_once(shown, tmp_path: Path, monkeypatch):
    found = find_gallery(write_classes(tmp_path / "data", 2), "val", needs_labels=True)
    (first,), _ = encoded(shown, found, tmp_path / "cache")
    monkeypatch.setattr(gallery_module, "extract_features", None)  # would fail
    (again,), _ = encoded(shown, found, tmp_path / "cache")
    assert (first == again).all()
    (tmp_path / "data/red/0.png").write_bytes((tmp_path / "data/blue/0.png").read_bytes())
    with pytest.raises(TypeError):  # another image, another feature
        encoded(shown, found, tmp_path / "cache")


def test_kept_features_that_are_damaged_are_computed_again(shown, tmp_path: Path, capsys):
    found = find_gallery(write_classes(tmp_path / "data", 2), "val", needs_labels=True)
    (first,), _ = encoded(shown, found, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the numbers
    file.write_bytes(content)
    (again,), _ = encoded(shown, found, tmp_path / "cache")
    assert (first == again).all()
    assert "is damaged (Bad CRC-32" in capsys.readouterr().err


def test_features_of_another_version_are_computed_again(shown, tmp_path: Path, monkeypatch):
    found = find_gallery(write_classes(tmp_path / "data", 1), "val", needs_labels=True)
    encoded(shown, found, tmp_path / "cache")
    monkeypatch.setattr(gallery_module, "extract_features", None)  # would fail
    monkeypatch.setattr("milan_mm.__version__", "0.0.1")
    with pytest.raises(TypeError):
        encoded(shown, found, tmp_path / "cache")


def test_an_unreadable_image_is_left_out_and_named(shown, tmp_path: Path, capsys):
    found = find_gallery(write_classes(tmp_path / "data", 2), "val", needs_labels=True)
    (tmp_path / "data/green/1.png").write_bytes(b"no image")
    (features,), left = encoded(shown, found, tmp_path / "cache")
    assert len(features) == len(left) == 5 and features.isfinite().all()
    assert "green/1.png" not in left.names and left.labels.tolist() == [0, 0, 1, 2, 2]
    assert "left out 1 of 6 images that cannot be read, first" in capsys.readouterr().err


def test_only_unreadable_images_are_an_error(shown, tmp_path: Path):
    write_classes(tmp_path / "data", 1)
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(b"no image")
    found = find_gallery(tmp_path / "data", "val", needs_labels=True)
    with pytest.raises(UserError, match=r"none of 3 images in .* can be read"):
        encoded(shown, found, tmp_path / "cache")


def test_a_folder_without_labels_is_refused_where_they_are_needed(tmp_path: Path):
    root = write_classes(tmp_path / "data", 2, dict(blue=(0, 0, 255)))
    with pytest.raises(UserError, match=r"has no labels \(1 class folder, no images outside"):
        find_gallery(root, "val", needs_labels=True)
    flat = find_gallery(root / "blue", "val", needs_labels=False)
    assert len(flat) == 2 and not flat.classes and isinstance(flat.labels, np.ndarray)
    with pytest.raises(MissingFileError, match="does not exist"):
        find_gallery(tmp_path / "nothing", "val", needs_labels=False)
