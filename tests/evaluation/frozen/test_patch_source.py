"""Patch tokens are the encoder's, and the same whether they are kept or computed again."""

import numpy as np
import pytest
import torch
from PIL import Image

from milan_mm.errors import UserError
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.frozen.patch_source import PatchSource
from milan_mm.weights.statistics import byte_stats
from tests.helpers import tiny_vit


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(3):
            image = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / f"train/{name}/{i}.png")
    return tmp_path


def source(images, kept_bytes: int, **settings) -> PatchSource:
    torch.manual_seed(0)
    vit = tiny_vit(out_type="raw", frozen=True, **settings).eval()
    dataset = read_image_folder(images, "train", 32, 1.0)
    return PatchSource(vit, dataset, "imagenet", batch_size=2, num_workers=0, kept_bytes=kept_bytes)


def test_tokens_are_the_same_kept_or_computed_again(images):
    order = [torch.tensor([5, 0, 3]), torch.tensor([0, 1])]
    size = 6 * 16 * 48 * 2
    kept, computed = source(images, size), source(images, size - 1)
    assert kept.keeps and not computed.keeps
    for tokens, others in zip(kept(order), computed(order), strict=True):
        torch.testing.assert_close(tokens, others, rtol=1e-3, atol=1e-3)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in byte_stats("imagenet"))
    pixels = kept.dataset[3]["inputs"].flip(0)
    (expected,) = kept.vit(((pixels - mean) / std)[None])
    torch.testing.assert_close(next(kept(order))[2], expected[0, 1:], rtol=1e-3, atol=2e-3)


def test_an_encoder_without_class_token_has_patches_only(images):
    (tokens,) = source(images, 2**20, with_cls_token=False)([torch.tensor([0])])
    assert tokens.shape == (1, 16, 48)


def test_tokens_that_are_not_finite_are_refused(images):
    broken = source(images, 2**20)
    broken.vit.ln1.weight.data[0] = 1e9
    with pytest.raises(UserError, match="not finite or exceed 65504"):
        next(broken([torch.tensor([0])]))
