"""`--weights` on a pretraining config: the encoder goes on, the decoder starts afresh."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from milan_mm.pretrain.milan import MILAN
from milan_mm.registry import MODELS
from milan_mm.run.encoder_weights import set_encoder_weights
from tests.helpers import milan_config, randomise, save_state


def _build(weights: Path | None = None, **settings) -> MILAN:
    cfg = Config(dict(model=milan_config(**settings)))
    if weights:
        set_encoder_weights(cfg, str(weights))
    torch.manual_seed(7)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A complete pretraining checkpoint, none of whose tensors is as initialised."""
    model = randomise(_build())
    with torch.no_grad():
        model.backbone.pos_embed.copy_(torch.randn_like(model.backbone.pos_embed))
        for parameter in model.parameters():
            parameter.add_(0.01)
    return save_state(dict(state_dict=model.state_dict()), tmp_path)


def test_every_tensor_of_the_encoder_is_that_of_the_file(checkpoint: Path):
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    encoder = _build(checkpoint).backbone.state_dict()
    assert len(encoder) == len([name for name in saved if name.startswith("backbone.")]) > 20
    for name, tensor in encoder.items():
        assert torch.equal(tensor, saved[f"backbone.{name}"]), name


def test_a_fixed_position_table_is_that_of_the_file_and_stays_fixed(checkpoint: Path):
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    backbone = _build(checkpoint).backbone
    assert not torch.equal(_build().backbone.pos_embed, saved["backbone.pos_embed"])
    assert torch.equal(backbone.pos_embed, saved["backbone.pos_embed"])
    assert not backbone.pos_embed.requires_grad


def test_the_decoder_starts_afresh(checkpoint: Path):
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    decoder = dict(_build(checkpoint).decoder.named_parameters())
    fresh = dict(_build().decoder.named_parameters())
    assert decoder.keys() == fresh.keys()
    for name, parameter in decoder.items():
        if parameter.requires_grad:
            assert not torch.equal(parameter, saved[f"decoder.{name}"]), name
            # drawn from the same distribution as without weights
            spread, expected = (
                p.detach().std(correction=0).item() for p in (parameter, fresh[name])
            )
            assert spread == pytest.approx(expected, rel=0.2, abs=1e-3), name


def test_an_encoder_continues_with_other_targets_and_another_decoder(checkpoint: Path):
    model = _build(checkpoint, decoder="MAEDecoder", head="PixelTargetHead")
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    weight = model.backbone.layers[1].attn.qkv.weight
    assert torch.equal(weight, saved["backbone.layers.1.attn.qkv.weight"])
