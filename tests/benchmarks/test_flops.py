"""FLOPs: counts by hand for layers whose arithmetic is short."""

import argparse

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import flops
from milan_mm.benchmark.flop_count import count_flops
from milan_mm.configs import load
from milan_mm.models.block import EncoderLayer


def test_linear_layer_is_counted_as_by_hand():
    layer = nn.Linear(5, 7)
    x = torch.randn(3, 5, requires_grad=True)
    assert flops.count_with_backward(layer, x) == (2 * 3 * 5 * 7, 3 * 2 * 3 * 5 * 7)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_counted_on_every_device(device):
    q, k = torch.empty(2, 4, 6, 8, device=device), torch.empty(2, 4, 10, 8, device=device)
    count = count_flops(F.scaled_dot_product_attention, q, k, k)
    assert count == 2 * (2 * 2 * 4 * 6 * 10 * 8)  # two matrix products


def test_block_is_counted_as_by_hand():
    with torch.device("meta"):
        block, x = EncoderLayer(16, 4), torch.empty(1, 9, 16)
    projections, attention = 2 * 9 * 12 * 16**2, 2 * 2 * 9 * 9 * 16
    assert count_flops(block, x) == projections + attention


def test_decoders_of_the_recipe_are_counted_as_by_hand():
    width, known, masked = 512, 50, 147
    everywhere = 2 * (known * 768 * width + 197 * width * 512)  # embedding and prediction
    prompting = 2 * (10 * masked + 2 * 197) * width**2 + 2 * 2 * masked * 197 * width
    mae = 2 * 12 * (known + masked) * width**2 + 2 * 2 * 197 * 197 * width
    config = load(flops.RECIPES["ViT-B/16"])
    for decoder, blocks in dict(PromptingDecoder=prompting, MAEDecoder=mae).items():
        assert flops.step_flops(config, decoder)["decoder"][0] == everywhere + 8 * blocks


def test_the_claim_is_printed_with_the_counts(capsys, monkeypatch):
    monkeypatch.setattr(flops, "RECIPES", {"ViT-B/16": flops.RECIPES["ViT-B/16"]})
    flops.run(argparse.Namespace())
    lines = capsys.readouterr().out.splitlines()
    assert "the paper claims 20 %" in lines[-3]
    decoder, student, step = (float(part.rstrip("%")) for part in lines[-1].split()[1:])
    assert decoder > student > step > 0
