"""Gradient accumulation changes neither an update nor its rate, nor which images it sees."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from milan_mm.registry import MODELS
from tests.helpers import milan_config


class KeepEveryFourth(nn.Module):
    """A mask that is the same for every image, so that it is the same in every part of a batch."""

    needs_importance = True

    def forward(self, imgs: Tensor, num_patches: int, importance: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.arange(num_patches).expand(len(imgs), -1)
        return ids[:, ::4], ids[:, ids[0] % 4 > 0]


def trained_milan(wrapper: dict, images: Tensor, accumulation: int, updates: int) -> nn.Module:
    """A MILAN of the same start each time, after some updates on the same images."""
    torch.manual_seed(0)
    model = MODELS.build(milan_config())
    model.mask_generator = KeepEveryFourth()
    optim_wrapper = build_optim_wrapper(
        model,
        dict(
            wrapper,
            optimizer=dict(type="AdamW", lr=1e-2, eps=1e-4, weight_decay=0.05),
            constructor="milan_mm.LayerDecayOptimWrapperConstructor",
            paramwise_cfg=dict(no_decay_1d=True),
            accumulative_counts=accumulation,
        ),
    )
    optim_wrapper.initialize_count_status(model, 0, updates * accumulation)
    for part in images.chunk(accumulation) * updates:
        with optim_wrapper.optim_context(model):
            loss = model.loss(part)["loss"]
        optim_wrapper.update_params(loss)
    return model


@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=0.01)], ids=["plain", "clipped"])
@pytest.mark.parametrize(
    "wrapper",
    # without modules in bfloat16 the second one computes in float32
    [dict(type="OptimWrapper"), dict(type="milan_mm.BFloat16OptimWrapper", modules=[])],
    ids=["OptimWrapper", "BFloat16OptimWrapper"],
)
def test_four_parts_of_two_give_the_update_of_eight(wrapper: dict, clip_grad: dict | None):
    images = torch.randn(8, 3, 96, 96)
    wrapper = dict(wrapper, clip_grad=clip_grad)
    start = trained_milan(wrapper, images, accumulation=1, updates=0)
    whole = trained_milan(wrapper, images, accumulation=1, updates=2)
    parts = trained_milan(wrapper, images, accumulation=4, updates=2)
    moved = []
    for a, b, c in zip(start.parameters(), whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(c, b, rtol=0, atol=1e-6)
        moved.append((b - a).abs().max().item())
    assert max(moved) > 1e-3
