"""Mask generators: exact counts and reproducible draws. Probabilities: test_parity.py."""

import math

import pytest
import torch
from mmengine.logging import MessageHub

from milan_mm.models import randomness
from milan_mm.models.patches import gather_tokens
from milan_mm.pretrain.masking import (
    SemanticMaskGenerator,
    UniformMaskGenerator,
    gumbel_noise,
    restore,
    split_patches,
)

CPU = torch.device("cpu")


@pytest.fixture
def run_state(monkeypatch):
    """Sets what a run would; undone after the test."""
    hub = MessageHub.get_current_instance()
    before = hub.get_info("iter")

    def set_state(iteration: int, rank: int = 0, world_size: int = 1, parts: int = 1) -> None:
        hub.update_info("iter", iteration)
        hub.update_info("iterations_per_update", parts)
        monkeypatch.setattr(randomness, "get_rank", lambda: rank)
        monkeypatch.setattr(randomness, "get_world_size", lambda: world_size)

    yield set_state
    hub.runtime_info.pop("iter", None)
    hub.runtime_info.pop("iterations_per_update", None)
    if before is not None:
        hub.update_info("iter", before)


def gumbel(*shape: int) -> torch.Tensor:
    return -torch.empty(shape).exponential_().log()


@pytest.mark.parametrize(
    "importance",
    [
        torch.zeros(4, 20),
        torch.full((4, 20), 1e-45),
        torch.eye(20)[:4],
        torch.full((4, 20), 1e30),
        torch.rand(4, 20) * 1e-38,
        torch.rand(4, 20).half() * 1e-6,
    ],
    ids=["zero", "denormal", "one patch only", "huge", "tiny", "half precision"],
)
def test_split_is_a_partition_of_exact_size_whatever_the_attention(importance):
    ids_keep, ids_mask = split_patches(importance, gumbel(4, 20), num_keep=5)
    assert ids_keep.shape == (4, 5)
    everything = torch.cat([ids_keep, ids_mask], dim=1).sort(dim=1).values
    assert torch.equal(everything, torch.arange(20).expand(4, -1))


def test_patches_without_attention_come_last():
    importance = torch.cat([torch.full((500, 3), 1e-9), torch.zeros(500, 9)], dim=1)
    ids_keep, _ = split_patches(importance, gumbel(500, 12), num_keep=4)
    assert torch.equal(ids_keep[:, :3].sort(dim=1).values, torch.arange(3).expand(500, -1))
    assert len(ids_keep[:, 3].unique()) == 9  # and in random order


def test_scale_of_the_importance_does_not_matter():
    importance, noise = torch.rand(8, 30), gumbel(8, 30)
    ids_keep, _ = split_patches(importance, noise, 10)
    scaled, _ = split_patches(importance * 1024, noise, 10)
    assert torch.equal(ids_keep, scaled)


def test_semantic_generator_prefers_important_patches():
    importance = torch.tensor([10.0] * 4 + [1.0] * 12).expand(2000, -1)
    ids_keep, _ = SemanticMaskGenerator(mask_ratio=0.75)(torch.empty(2000), 16, importance)
    frequency = torch.bincount(ids_keep.flatten(), minlength=16) / 2000
    assert frequency[:4].min() > 2 * frequency[4:].max()


@pytest.mark.parametrize(
    ("num_patches", "mask_ratio", "num_keep"),
    [(100, 0.9, 10), (196, 0.75, 49), (144, 0.75, 36), (100, 0.7, 30), (10, 0.34, 7)],
)
def test_number_of_kept_patches_is_rounded_not_cut(num_patches, mask_ratio, num_keep):
    generator = UniformMaskGenerator(mask_ratio)
    assert generator.num_keep(num_patches) == num_keep
    ids_keep, ids_mask = generator(torch.empty(2), num_patches, None)
    assert (ids_keep.shape[1], ids_mask.shape[1]) == (num_keep, num_patches - num_keep)


@pytest.mark.parametrize("mask_ratio", [0, 1, -0.1, 1.5, float("nan")])
def test_ratio_outside_0_to_1_is_refused(mask_ratio):
    with pytest.raises(ValueError, match=rf"mask_ratio {mask_ratio} is outside \(0, 1\)"):
        UniformMaskGenerator(mask_ratio)


@pytest.mark.parametrize("mask_ratio", [0.01, 0.99])
def test_ratio_that_keeps_all_or_nothing_is_refused(mask_ratio):
    with pytest.raises(ValueError, match=f"mask_ratio {mask_ratio} of 16 patches keeps"):
        UniformMaskGenerator(mask_ratio).num_keep(16)


def test_take_picks_tokens_by_number():
    tokens, ids = torch.randn(3, 7, 4), torch.randint(7, (3, 5))
    out = gather_tokens(tokens, ids)
    for b in range(3):
        for k in range(5):
            assert torch.equal(out[b, k], tokens[b, ids[b, k]])


def test_restore_undoes_the_split():
    tokens = torch.randn(4, 12, 3)
    ids_keep, ids_mask = split_patches(torch.rand(4, 12), gumbel(4, 12), 5)
    restored = restore(
        gather_tokens(tokens, ids_keep), gather_tokens(tokens, ids_mask), ids_keep, ids_mask
    )
    assert torch.equal(restored, tokens)


def test_noise_is_standard_gumbel():
    noise = gumbel_noise(200, 500, CPU)
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.05)


@pytest.mark.parametrize(("world_size", "parts"), [(2, 1), (1, 2), (1, 4), (2, 2), (4, 3)])
def test_every_split_of_a_batch_draws_the_masks_of_the_whole(run_state, world_size, parts):
    batch, update = 12 // (world_size * parts), 7
    run_state(update)
    whole = gumbel_noise(12, 10, CPU)
    for part in range(parts):
        # the sampler deals images like cards: process r reads images r, r+2, r+4
        images = whole.split(batch * world_size)[part]
        for rank in range(world_size):
            run_state(update * parts + part, rank, world_size, parts)
            assert torch.equal(gumbel_noise(batch, 10, CPU), images[rank::world_size])


def test_masks_follow_the_iteration_not_the_number_of_draws(run_state):
    run_state(3)
    noise = gumbel_noise(2, 10, CPU)
    run_state(4)
    assert not torch.equal(gumbel_noise(2, 10, CPU), noise)
    run_state(3)  # as after a resume
    assert torch.equal(gumbel_noise(2, 10, CPU), noise)


@pytest.mark.parametrize("seeds", [(0, 1), (0, 2**32), (1, 2**33 + 1)])
def test_masks_follow_the_seed(run_state, seeds):
    run_state(3)
    draws = []
    for seed in seeds:
        torch.manual_seed(seed)
        draws.append(gumbel_noise(2, 10, CPU))
    assert not torch.equal(*draws)


def test_drawing_masks_in_a_run_leaves_the_global_random_state_alone(run_state):
    run_state(3)
    before = torch.get_rng_state()
    gumbel_noise(2, 10, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_outside_a_run_each_draw_differs_and_the_seed_repeats_it():
    first, second = gumbel_noise(2, 10, CPU), gumbel_noise(2, 10, CPU)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(gumbel_noise(2, 10, CPU), first)
