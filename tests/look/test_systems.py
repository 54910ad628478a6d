"""Encoders of different pretrainings in one figure: each sees what its own pretraining showed."""

from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.look.attention import AttentionSettings, attention_figure
from milan_mm.look.gallery import encode_gallery, find_gallery
from milan_mm.look.pca import PcaSettings, pca_figure
from milan_mm.look.systems import Shown, image_sizes, read_systems
from tests.helpers import save_state, tiny_vit
from tests.look.conftest import WORDING, write_classes
from tests.look.test_attention import PHOTO


@pytest.fixture
def two(tmp_path: Path) -> list[Shown]:
    """Encoders for 32 px in patches of 8, and for 56 px in patches of 14."""
    sizes = dict(small=(32, 8), large=(56, 14))
    files = [
        str(save_state(tiny_vit(img_size=size, patch_size=p).state_dict(), tmp_path, f"{name}.pth"))
        for name, (size, p) in sizes.items()
    ]
    return read_systems(files, num_heads=4)


def test_each_encoder_sees_images_of_its_pretraining(two: list[Shown], tmp_path: Path):
    outcome = attention_figure(two, [PHOTO], AttentionSettings(), WORDING)
    assert outcome.facts["img_size"] == [32, 56]
    assert "Images of 32 px (small), 56 px (large)." in outcome.facts["caption"]
    maps = [axes.images[0].get_array().shape for axes in outcome.figure.axes[1:3]]
    assert maps == [(4, 4), (4, 4)]
    assert pca_figure(two, [PHOTO], PcaSettings(), WORDING).facts["img_size"] == [64, 112]
    found = find_gallery(write_classes(tmp_path / "data", 1), "val", needs_labels=True)
    together, _ = encode_gallery(two, found, image_sizes(None, two), tmp_path / "a", workers=0)
    for system, rows, size in zip(two, together, (32, 56), strict=True):
        (alone,), _ = encode_gallery([system], found, [size], tmp_path / "b", workers=0)
        assert (rows == alone).all()


def test_a_size_that_fits_all_patches_is_proposed(two: list[Shown]):
    with pytest.raises(UserError, match=r"of 100 px are not .* of 8 px of small: .* 112$"):
        image_sizes(100, two)
    assert image_sizes(112, two) == [112, 112]
