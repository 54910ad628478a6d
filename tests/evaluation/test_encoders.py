"""An encoder is rebuilt from its file alone."""

import pytest
import torch

from milan_mm.evaluation.encoders import load_frozen_encoder, random_encoder_like
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.vit_options import ARCHS
from milan_mm.weights.recognising import recognise
from milan_mm.weights.settings import HEADS
from tests.helpers import save_state, tiny_vit


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(with_cls_token=False),
        dict(final_norm=False),
        dict(img_size=48, patch_size=16),
        dict(arch=dict(embed_dims=24, num_layers=2, num_heads=4)),
    ],
)
def test_an_encoder_of_any_size_gives_its_own_tokens(tmp_path, settings):
    source = tiny_vit(out_type="raw", **settings).eval()
    vit, _ = load_frozen_encoder(save_state(source.state_dict(), tmp_path), num_heads=4)
    imgs = torch.randn(2, 3, 48, 32)
    assert torch.equal(vit(imgs)[0], source(imgs)[0])
    assert vit.grid_size == source.grid_size


def test_an_encoder_from_a_file_is_frozen(tmp_path):
    vit, _ = load_frozen_encoder(save_state(tiny_vit().state_dict(), tmp_path), num_heads=4)
    vit.train()
    assert not any(module.training for module in vit.modules())
    assert not any(parameter.requires_grad for parameter in vit.parameters())


@pytest.mark.parametrize("arch", ARCHS)
def test_usual_sizes_need_no_number_of_heads(arch):
    sizes = ARCHS[arch]
    assert HEADS[sizes["embed_dims"], sizes["num_layers"]] == sizes["num_heads"]


def test_the_architecture_of_a_usual_size_is_complete():
    state = PlainViT("tiny", img_size=32).state_dict()
    assert recognise(state, "file").model_settings()["arch"] == ARCHS["tiny"]


def test_heads_of_an_unusual_size_are_asked_for():
    # as wide as ViT-tiny, which has 3 heads, but of another depth
    vit = PlainViT(dict(embed_dims=192, num_layers=6, num_heads=6), img_size=16)
    with pytest.raises(ValueError, match=r"6 blocks of width 192.*pass --num-heads"):
        recognise(vit.state_dict(), "file").model_settings()


def test_positions_of_no_square_grid_are_refused():
    vit = tiny_vit(img_size=(32, 24))
    with pytest.raises(ValueError, match="positions for 12 patches, which is not a square grid"):
        recognise(vit.state_dict(), "file", num_heads=4).model_settings()


def test_wrong_number_of_heads_is_refused(tmp_path):
    file = save_state(tiny_vit().state_dict(), tmp_path)
    with pytest.raises(ValueError, match="48 is not a multiple of 7 heads"):
        load_frozen_encoder(file, num_heads=7)


def test_random_encoder_has_the_same_shape_and_other_weights():
    vit = tiny_vit(out_type="raw")
    other = random_encoder_like(vit)
    shapes = {name: tensor.shape for name, tensor in vit.state_dict().items()}
    assert {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes
    assert other.layers[0].attn.num_heads == vit.layers[0].attn.num_heads
    imgs = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(vit(imgs)[0], other(imgs)[0], atol=0.1)
