"""The attentive probe is plain attention by one query, though no keys and values are made."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.evaluation.frozen.attentive import (
    AttentiveProbes,
    AttentiveSettings,
    attentive_grid,
    heads_of_probe,
    train_attentive,
)
from milan_mm.evaluation.frozen.stacked import each_setting, num_updates, shuffled, warm_cosine

WIDTH, HEADS, NUM_CLASSES = 8, 2, 3
SETTINGS = AttentiveSettings(
    rates=(1e-4, 1e-2, 0.1), weight_decays=(1e-3, 0.5), batch=16, updates=50, epochs=8, chunk=10
)


class Probe(nn.Module):
    """Attention with keys and values of every patch, by torch's own function."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.detach().clone()))

    def forward(self, tokens: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)  # (B, A, L, D/A)

        query = self.query.expand(len(tokens), 1, -1)
        key, value = F.linear(tokens, self.key), F.linear(tokens, self.value, self.value_bias)
        seen = F.scaled_dot_product_attention(split(query), split(key), split(value))
        return F.linear(seen.flatten(1), self.linear, self.linear_bias)


def new_probes(count: int = 6, num_classes: int = NUM_CLASSES) -> AttentiveProbes:
    generator = torch.Generator().manual_seed(0)
    return AttentiveProbes(count, WIDTH, num_classes, HEADS, generator, torch.device("cpu"))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Only one patch of 5, at a place that differs, shows the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % NUM_CLASSES
    tokens = 0.5 * torch.randn(count, 5, WIDTH, generator=generator)
    place = torch.randint(5, (count,), generator=generator)
    tokens[torch.arange(count), place] = 3 * F.one_hot(labels, WIDTH).float()
    return tokens, labels


def give(tokens: Tensor):
    def patches(order: Iterable[Tensor]) -> Iterator[Tensor]:
        return (tokens[ids] for ids in order)

    return patches


@pytest.mark.parametrize("num_classes", [3, 30])  # either order of the multiplications
def test_scores_are_those_of_plain_attention(num_classes):
    probes = new_probes(2, num_classes)
    for tensor in probes.tensors.values():
        tensor.normal_(generator=torch.Generator().manual_seed(1))
    tokens, _ = images(4, seed=0)
    scores = probes(tokens)
    for i in range(2):
        alone = Probe({name: tensor[i] for name, tensor in probes.tensors.items()})
        torch.testing.assert_close(scores[..., i], alone(tokens), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(probes(tokens, only=i)[..., 0], scores[..., i])


def test_every_probe_is_the_one_that_torch_trains_alone():
    tokens, labels = images(48, seed=0)
    each = each_setting(SETTINGS.rates, SETTINGS.weight_decays)
    probes = new_probes()
    alone = [Probe({n: t[i] for n, t in probes.tensors.items()}) for i in range(len(each))]
    train_attentive(probes, give(tokens), labels, torch.arange(48), each, SETTINGS, seed=5)
    updates = num_updates(48, 16, SETTINGS.updates, SETTINGS.epochs)
    # as CAPI makes its schedule
    warmup = round(0.1 * updates)
    down = (np.cos(np.linspace(0, np.pi, updates - warmup)) + 1) / 2
    factors = np.concatenate([np.linspace(0, 1, warmup), down])
    for i, (setting, probe) in enumerate(zip(each, alone, strict=True)):
        named = dict(probe.named_parameters())
        biases = [p for name, p in named.items() if "bias" in name]
        weights = [p for name, p in named.items() if "bias" not in name]
        optimizer = torch.optim.AdamW(
            [
                dict(params=weights, weight_decay=setting["weight_decay"]),
                dict(params=biases, weight_decay=0.0),
            ],
            betas=(0.9, 0.95),
        )
        for factor, ids in zip(factors, shuffled(48, 16, updates, 5), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * setting["lr"] * 16 / 256
            optimizer.zero_grad()
            F.cross_entropy(probe(tokens[ids]), labels[ids]).backward()
            optimizer.step()
        for name, parameter in named.items():
            found = probes.tensors[name][i]
            torch.testing.assert_close(found, parameter, rtol=2e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize(("updates", "warmup"), [(40, 4), (7, 1), (3, 0)])
def test_the_schedule_is_that_of_capi(updates, warmup):
    down = (np.cos(np.linspace(0, np.pi, updates - warmup)) + 1) / 2
    expected = np.concatenate([np.linspace(0, 1, warmup), down])
    factor = warm_cosine(updates, warmup)
    np.testing.assert_allclose([factor(i) for i in range(updates)], expected, atol=1e-12)


def test_the_best_probe_finds_the_patch_that_shows_the_class():
    train, labels = images(120, seed=0)
    test, answers = images(60, seed=1)
    settings = AttentiveSettings(rates=(1e-6, 0.05), weight_decays=(0.0,), batch=16, epochs=40)
    found = attentive_grid(give(train), labels, NUM_CLASSES, give(test), 60, WIDTH, HEADS, settings)
    assert found.settings == dict(lr=0.05, weight_decay=0.0)
    assert (found.predictions[:, 0] == answers).float().mean() > 0.95


def test_heads_have_64_channels_where_the_width_allows():
    assert heads_of_probe(768, 12) == 12
    assert heads_of_probe(192, 6) == 3
    assert heads_of_probe(48, 4) == 4
