"""Random numbers of an image do not depend on how the batch is split."""

from collections.abc import Callable, Iterator

import pytest
import torch
from mmengine.logging import MessageHub
from torch import Tensor

from milan_mm.models import randomness
from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.randomness import numbers_of_images
from tests.helpers import tiny_vit

CPU = torch.device("cpu")
Split = Callable[[int, int, int, int, int], None]
TOTAL = 8  # images per update


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Iterator[Split]:
    """Sets what a run would: `split(update, part, parts, rank, processes)`."""
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)

    def put(update: int, part: int, parts: int, rank: int, processes: int) -> None:
        hub.update_info("iter", update * parts + part)
        hub.update_info("iterations_per_update", parts)
        monkeypatch.setattr(randomness, "get_rank", lambda: rank)
        monkeypatch.setattr(randomness, "get_world_size", lambda: processes)

    yield put
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


def whole_update(
    split: Split, update: int, parts: int, processes: int, compute: Callable[[Tensor], Tensor]
) -> Tensor:
    """What all processes and parts compute of an update's images, in the images' order."""
    places = torch.arange(TOTAL).view(parts, -1, processes)  # as the sampler deals them out
    results: list[Tensor] = [torch.empty(0)] * TOTAL
    for part in range(parts):
        for rank in range(processes):
            split(update, part, parts, rank, processes)
            own = places[part, :, rank]
            for place, result in zip(own.tolist(), compute(own), strict=True):
                results[place] = result
    return torch.stack(results)


SPLITS = [(4, 1), (2, 2), (1, 4), (8, 1), (1, 8)]


@pytest.mark.parametrize(("parts", "processes"), SPLITS)
def test_numbers_of_an_image_are_the_same_for_every_split(split, parts: int, processes: int):
    def draw(places: Tensor) -> Tensor:
        return numbers_of_images(Tensor.uniform_, len(places), 5, CPU)

    expected = whole_update(split, 3, 1, 1, draw)
    assert torch.equal(whole_update(split, 3, parts, processes, draw), expected)
    assert not torch.equal(whole_update(split, 4, parts, processes, draw), expected)
    assert len(expected.flatten().unique()) == expected.numel()  # no image has those of another


def test_a_process_alone_draws_what_one_of_several_has_drawn(split):
    split(3, 0, 1, 1, 2)
    before = numbers_of_images(Tensor.uniform_, 4, 5, CPU)
    split(3, 0, 1, 0, 1)
    hub = MessageHub.get_current_instance()
    hub.update_info("rank", 1)
    hub.update_info("world_size", 2)
    assert torch.equal(numbers_of_images(Tensor.uniform_, 4, 5, CPU), before)


def test_numbers_for_another_purpose_are_others(split):
    split(3, 0, 1, 0, 1)
    draws = [numbers_of_images(Tensor.uniform_, 4, 5, CPU, *purpose) for purpose in ((), (1,))]
    assert not torch.equal(*draws)


def encode(vit: PlainViT, imgs: Tensor) -> Tensor:
    return vit.encode(vit.embed(imgs))


@pytest.mark.parametrize(("parts", "processes"), SPLITS[:3])
@pytest.mark.parametrize("how", [encode, lambda vit, imgs: vit(imgs)[0]], ids=["encode", "forward"])
@pytest.mark.parametrize("options", [{}, dict(layer_scale=1.0), dict(with_cp=True)])
def test_the_same_paths_of_an_image_are_dropped_for_every_split(
    split, parts: int, processes: int, how: Callable[[PlainViT, Tensor], Tensor], options: dict
):
    vit = tiny_vit(drop_path_rate=0.5, out_type="raw", **options).train()
    images = torch.randn(1, 3, 32, 32).expand(TOTAL, -1, -1, -1)

    def compute(places: Tensor) -> Tensor:
        return how(vit, images[places]).detach()

    expected = whole_update(split, 3, 1, 1, compute)
    torch.testing.assert_close(whole_update(split, 3, parts, processes, compute), expected)
    assert not torch.allclose(whole_update(split, 4, parts, processes, compute), expected)
    assert not torch.allclose(expected[0], expected[1])  # the same image, other paths


def test_paths_are_dropped_at_their_rate(split):
    split(0, 0, 1, 0, 1)
    vit = tiny_vit(drop_path_rate=0.4).train()
    layer = vit.layers[-1]
    noise = vit._drop_noise(torch.empty(500, 1))[-1]
    kept = layer.drop_path(torch.ones(500, 1), noise[0]).ne(0).float().mean()
    assert kept.item() == pytest.approx(0.6, abs=0.07)
    assert noise.min() >= 0 and noise.max() < 1
