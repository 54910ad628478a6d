"""Every system's files, as its own classes write them, give the features that it computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from milan_mm.encoder.loading import build
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import DEFAULTS, Encoder
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import recognise
from tests.helpers import TINY_ARCH
from tests.weights.zoo import HEADS, ONE_SIZE, SYSTEMS, D, Sample, timm_vit


@pytest.fixture(params=SYSTEMS)
def sample(request, tmp_path: Path) -> Sample:
    return SYSTEMS[request.param](tmp_path)


def read(sample: Sample) -> Encoder:
    return recognise(sample.content, "a.pth", num_heads=HEADS)


def test_layout_system_statistics_and_pooling_are_recognised(sample: Sample):
    encoder = read(sample)
    found = (encoder.layout, encoder.system, encoder.stats, encoder.pooling)
    assert found == (sample.layout, sample.system, sample.stats, sample.pooling)


def test_the_settings_are_those_of_the_system(sample: Sample):
    settings = read(sample).settings
    own_grid = {} if settings["rope_base"] else dict(img_size=32)
    expected = DEFAULTS | dict(patch_size=8, with_cls_token=True, final_norm=True)
    expected |= own_grid | sample.settings
    assert settings["arch"] == TINY_ARCH
    assert {name: settings[name] for name in expected} == expected


def assert_equal_features(sample: Sample, imgs: Tensor) -> None:
    encoder = read(sample)
    vit = PlainViT(**encoder.model_settings(), out_type="raw").eval()
    load_encoder(vit, encoder)
    with torch.no_grad():
        torch.testing.assert_close(vit(imgs)[0], sample.tokens(imgs), rtol=1e-5, atol=1e-5)


def test_the_features_are_those_of_the_system(sample: Sample):
    assert_equal_features(sample, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("name", sorted(SYSTEMS.keys() - ONE_SIZE))
def test_the_features_are_those_of_the_system_on_images_of_another_shape(name: str, tmp_path: Path):
    assert_equal_features(SYSTEMS[name](tmp_path), torch.randn(2, 3, 48, 24))


def test_all_that_is_no_part_of_the_encoder_is_dropped_with_a_reason(sample: Sample):
    encoder = read(sample)
    assert set(sample.extras) - {"register_tokens", "reg_token", "embeddings.register_tokens"} <= (
        encoder.dropped.keys()
    )
    assert all(len(reason) > 5 for reason in encoder.dropped.values())


def test_without_its_attention_pooling_an_encoder_takes_the_mean(tmp_path: Path):
    for name in ("hf_siglip", "pe"):
        content = SYSTEMS[name](tmp_path).content
        bare = {n: t for n, t in content.items() if ".head." not in n and "attn_pool" not in n}
        encoder = recognise(bare, "a.pth", system="SigLIP" if name == "hf_siglip" else "PE")
        assert encoder.pooling == "mean"
        assert encoder.assumed["pooling"] == "'mean', since the file has no attention pooling"


def test_an_own_attention_pooling_gives_the_features_of_an_image(tmp_path: Path):
    sample = SYSTEMS["siglip"](tmp_path)
    model = sample.content
    encoder = build(recognise(model, "a.pth", num_heads=HEADS))
    judge = timm_vit(
        class_token=False, global_pool="map", act_layer="gelu_tanh", mlp_ratio=100.5 / D
    )
    judge.load_state_dict(model)
    imgs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(imgs), judge(imgs), rtol=1e-4, atol=1e-4)
