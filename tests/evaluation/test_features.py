"""Features of an image folder: the right pixels in, the right tokens out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from milan_mm.evaluation.encoders import load_frozen_encoder
from milan_mm.evaluation.features import extract_features, pool, read_image_folder
from milan_mm.evaluation.frozen.extraction import pooled
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.weights.recognising import recognise
from milan_mm.weights.statistics import byte_stats
from tests.helpers import tiny_vit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in train/, 3 and 2 smooth images of 60x45 pixels."""
    rng = np.random.default_rng(0)
    for name, count in (("cat", 3), ("dog", 2)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((60, 45), Image.Resampling.BICUBIC)
            image.save(tmp_path / "train" / name / f"{i}.png")
    return tmp_path


def explicit_input(path: Path) -> torch.Tensor:
    """Short side 36, centre 32, RGB, normalised: with Pillow and by hand."""
    image = Image.open(path).resize((48, 36), Image.Resampling.BICUBIC).crop((8, 2, 40, 34))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in byte_stats("imagenet"))
    return (pixels - mean) / std


@pytest.mark.parametrize("feature", ["cls_token", "avg"])
def test_features_are_those_of_explicitly_prepared_images(folder, feature):
    vit = tiny_vit(out_type="raw", frozen=True).eval()
    dataset = read_image_folder(folder, "train", img_size=32, crop_pct=32 / 36)
    found = extract_features(
        dict(one=vit), dataset, ["avg", "cls_token"], batch_size=2, num_workers=0
    )["one", feature]
    paths = sorted((folder / "train").glob("*/*.png"))
    (tokens,) = vit(torch.stack([explicit_input(path) for path in paths]))
    expected = tokens[:, 0] if feature == "cls_token" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(found, F.normalize(expected, dim=1), rtol=1e-4, atol=1e-4)
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1]


def test_several_encoders_see_the_same_images(folder):
    vits = dict(one=tiny_vit(out_type="raw").eval(), two=tiny_vit(out_type="raw").eval())
    dataset = read_image_folder(folder, "train", img_size=32, crop_pct=0.875)
    together = extract_features(vits, dataset, num_workers=0)
    for name, vit in vits.items():
        alone = extract_features({name: vit}, dataset, num_workers=2, batch_size=3)[
            name, "cls_token"
        ]
        torch.testing.assert_close(together[name, "cls_token"], alone)
    assert not torch.allclose(*together.values())


def test_bfloat16_features_are_close_to_float32(folder):
    vit = tiny_vit(out_type="raw").eval()
    dataset = read_image_folder(folder, "train", img_size=32, crop_pct=0.875)
    full = extract_features(dict(vit=vit), dataset, num_workers=0)["vit", "cls_token"]
    half = extract_features(dict(vit=vit), dataset, num_workers=0, amp=True)["vit", "cls_token"]
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert (full * half).sum(dim=1).min() > 0.999


def test_mean_of_the_patches_leaves_the_class_token_out():
    tokens = torch.randn(2, 5, 3)
    vit = SimpleNamespace(num_prefix_tokens=3)
    assert torch.equal(pool(vit, tokens, "avg"), tokens[:, 3:].mean(dim=1))
    vit = SimpleNamespace(num_prefix_tokens=0)
    assert torch.equal(pool(vit, tokens, "avg"), tokens.mean(dim=1))


def test_the_attention_pooling_is_that_of_timm(folder):
    torch.manual_seed(0)
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=0)
    judge = VisionTransformer(**sizes, class_token=False, global_pool="map", act_layer="gelu_tanh")
    encoder = recognise(judge.state_dict(), "a.pth", num_heads=4)
    vit, _ = load_frozen_encoder(encoder)
    dataset = read_image_folder(folder, "train", img_size=32, crop_pct=32 / 36)
    found = extract_features(dict(one=vit), dataset, ["pool"], num_workers=0)["one", "pool"]
    paths = sorted((folder / "train").glob("*/*.png"))
    expected = judge.eval()(torch.stack([explicit_input(path) for path in paths]))
    torch.testing.assert_close(found, F.normalize(expected, dim=1), rtol=1e-4, atol=1e-4)
    imgs = torch.randn(2, 3, 32, 32)
    stored = pooled(vit, imgs, Needs((1,), ("pool",)))["pool"]  # as tools/extract.py keeps it
    torch.testing.assert_close(stored[:, 0], judge(imgs), rtol=1e-4, atol=1e-4)


def test_a_missing_folder_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder val or valid or validation, only 'tra"):
        read_image_folder(folder, "val", 32, 0.875)


def test_a_folder_without_classes_is_named(folder):
    (folder / "val").mkdir()
    (folder / "val/1.png").touch()
    with pytest.raises(FileNotFoundError, match="val' has no folder per class: give --data a fol"):
        read_image_folder(folder, "val", 32, 0.875)


def test_a_class_without_images_is_named(folder):
    (folder / "train/bird").mkdir()
    (folder / "train/bird/notes.txt").touch()
    with pytest.raises(ValueError, match=r"class 'bird' has no images .*1 of 3 classes"):
        read_image_folder(folder, "train", 32, 0.875)


def test_classes_without_any_image_are_named(tmp_path):
    (tmp_path / "train/bird").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train': Found 0 files"):
        read_image_folder(tmp_path, "train", 32, 0.875)


def test_an_unreadable_image_is_named(folder):
    (folder / "train/dog/1.png").write_bytes(b"no image")
    dataset = read_image_folder(folder, "train", 32, 0.875)
    with pytest.raises(ValueError, match=r"dog/1\.png' cannot be read"):
        extract_features(dict(vit=tiny_vit(out_type="raw")), dataset, num_workers=0)
