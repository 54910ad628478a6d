"""Many probes at once are the same as each on its own; the test images choose nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.evaluation.frozen.linear_grid import (
    GridSettings,
    linear_grid,
    linear_input,
    train_probes,
)
from milan_mm.evaluation.frozen.stacked import each_setting, num_updates, shuffled

SETTINGS = GridSettings(
    rates=(1e-3, 0.1, 0.4), weight_decays=(0.0, 0.05), blocks=(1, 2), batch=32, updates=40, epochs=9
)


def images(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Features of 3 blocks of width 6, whose class token is noise in the last block."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    centres = torch.randn(4, 2, 3, 6, generator=torch.Generator().manual_seed(7))
    tokens = centres[labels] + 0.5 * torch.randn(count, 2, 3, 6, generator=generator)
    tokens[:, 0, -1] = torch.randn(count, 6, generator=generator)
    return dict(cls_token=tokens[:, 0], avg=tokens[:, 1]), labels


@pytest.mark.parametrize("pooling", ["cls_token", "avg", "both"])
def test_every_probe_is_the_one_that_torch_trains_alone(pooling):
    tokens, labels = images(100, seed=0)
    each = each_setting(SETTINGS.rates, SETTINGS.weight_decays)
    inputs = [(blocks, pooling, each) for blocks in SETTINGS.blocks]
    unmoved = [(blocks, pooling, [dict(lr=0.0, weight_decay=0.0)]) for blocks in SETTINGS.blocks]
    start = train_probes(tokens, labels, torch.arange(100), 4, unmoved, SETTINGS, 3)
    trained = train_probes(tokens, labels, torch.arange(100), 4, inputs, SETTINGS, 3)
    updates = num_updates(100, 32, SETTINGS.updates, SETTINGS.epochs)
    assert updates == 9 * 3
    for first, probe in zip(start, trained, strict=True):
        seen = linear_input(tokens, probe.blocks, pooling)
        for i, setting in enumerate(each):
            layer = nn.Linear(seen.shape[1], 4)
            layer.weight.data, layer.bias.data = (
                first.weight[0].detach().clone(),
                first.bias[0].detach().clone(),
            )
            groups = [
                dict(params=[layer.weight], weight_decay=setting["weight_decay"]),
                dict(params=[layer.bias]),
            ]
            optimizer = torch.optim.SGD(groups, lr=setting["lr"] * 32 / 256, momentum=0.9)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
            for ids in shuffled(100, 32, updates, 3):
                optimizer.zero_grad()
                F.cross_entropy(layer(seen[ids]), labels[ids]).backward()
                optimizer.step()
                schedule.step()
            torch.testing.assert_close(probe.weight[i], layer.weight, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(probe.bias[i], layer.bias, rtol=1e-4, atol=1e-5)


def test_inputs_are_those_of_dinov2():
    tokens, _ = images(5, seed=0)
    cls_token, avg = tokens["cls_token"], tokens["avg"]
    four = torch.cat([cls_token[:, 1], cls_token[:, 2], avg[:, 2]], dim=1)
    assert torch.equal(linear_input(tokens, 2, "both"), four)
    assert torch.equal(linear_input(tokens, 1, "cls_token"), cls_token[:, 2])
    assert torch.equal(linear_input(tokens, 2, "avg"), avg[:, 1:].flatten(1))


def test_the_best_is_chosen_without_the_test_images_and_learns_from_all_training_images():
    train, labels = images(80, seed=0)
    test, answers = images(200, seed=1)
    found = linear_grid(train, labels, 4, test, SETTINGS)
    assert found.settings["pooling"] != "cls_token" or found.settings["blocks"] > 1
    assert (found.predictions[:, 0] == answers).float().mean() > 0.9
    other = linear_grid(train, labels, 4, {k: -v for k, v in test.items()}, SETTINGS)
    assert (other.settings, other.accuracy) == (found.settings, found.accuracy)
    chosen = found.settings
    setting = [dict(lr=chosen["lr"], weight_decay=chosen["weight_decay"])]
    (probe,) = train_probes(
        train,
        labels,
        torch.arange(80),
        4,
        [(chosen["blocks"], chosen["pooling"], setting)],
        SETTINGS,
        seed=0,
    )
    assert torch.equal(probe.predict(test, 64), found.predictions)


def test_every_epoch_has_an_order_of_its_own_and_whole_batches():
    orders = [torch.cat(list(shuffled(10, 3, 6, seed))) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    first, second = orders[0][:9], orders[0][9:]
    assert first.unique().numel() == second.unique().numel() == 9
    assert not torch.equal(first, second)
