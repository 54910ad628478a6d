"""The MLP equals the one of mmcv that it is, whatever is done to its layers."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.peft import LoRAModel
from torch import Tensor

from milan_mm.models.feed_forward import FeedForward

DIMS = 16


def output_and_gradients(forward: Callable, x: Tensor, mlp: FFN) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = forward(x)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    wanted = [p for p in mlp.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *wanted])]


@pytest.mark.parametrize("act", ["GELU", "QuickGELU"])
@pytest.mark.parametrize("frozen", ["none", "0.0", "1.weight", "weight", "bias"])
def test_output_and_gradients_are_those_of_mmcv(act, frozen):
    mlp = FeedForward(DIMS, act)
    for name, parameter in mlp.named_parameters():
        parameter.requires_grad_(frozen not in name)
    x = torch.randn(2, 5, DIMS)
    found = output_and_gradients(mlp, x, mlp)
    for ours, reference in zip(found, output_and_gradients(mlp.layers, x, mlp), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-6, atol=1e-6)


def test_in_bfloat16_they_are_those_of_mmcv_too():
    mlp = FeedForward(DIMS)
    x = torch.randn(2, 5, DIMS)
    with torch.autocast("cpu", torch.bfloat16):
        found = output_and_gradients(mlp, x, mlp)
        expected = output_and_gradients(mlp.layers, x, mlp)
    assert found[0].dtype == torch.bfloat16
    for ours, reference in zip(found, expected, strict=True):
        assert ours.dtype == reference.dtype
        torch.testing.assert_close(ours, reference, rtol=1e-2, atol=1e-2)


def test_an_adapter_in_place_of_the_second_layer_takes_part():
    settings = dict(type="milan_mm.PlainViT", img_size=16, patch_size=8)
    settings["arch"] = dict(embed_dims=DIMS, num_layers=1, num_heads=2)
    targets = [dict(type=r"layers.0.ffn.layers.1")]
    model = LoRAModel(settings, alpha=1, rank=2, targets=targets).eval()
    imgs = torch.randn(1, 3, 16, 16)
    (before,) = model(imgs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_()
    (after,) = model(imgs)
    assert (after - before).abs().max() > 1e-3


class Doubled(torch.nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def double(mlp: FeedForward) -> None:
    mlp.layers[1].register_forward_hook(lambda module, args, out: 2 * out)


def prune(mlp: FeedForward) -> None:
    torch.nn.utils.prune.l1_unstructured(mlp.layers[1], "weight", amount=0.5)


def replace(mlp: FeedForward) -> None:
    mlp.layers[1] = Doubled(4 * DIMS, DIMS)


def approximate(mlp: FeedForward) -> None:
    mlp.layers[0][1] = torch.nn.GELU("tanh")


def double_inside(mlp: FeedForward) -> None:
    mlp.layers[0].register_forward_hook(lambda module, args, out: 2 * out)


@pytest.mark.parametrize("change", [double, double_inside, prune, replace, approximate])
def test_what_is_changed_from_outside_takes_part(change):
    mlp = FeedForward(DIMS)
    change(mlp)
    x = torch.randn(2, 5, DIMS)
    for _ in range(2):  # pruning makes its weight anew in every forward pass
        found = output_and_gradients(mlp, x, mlp)
        for ours, reference in zip(found, output_and_gradients(mlp.layers, x, mlp), strict=True):
            assert torch.equal(ours, reference)


def test_gradients_of_gradients_are_those_of_mmcv():
    mlp = FeedForward(DIMS).double()
    x = torch.randn(2, 3, DIMS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(mlp, x)


def test_torch_func_differentiates_it_for_every_sample():
    mlp = FeedForward(DIMS)
    x = torch.randn(4, 5, DIMS)

    def loss(sample: Tensor) -> Tensor:
        return mlp(sample).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(x)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(mlp.layers(x).square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_traced_one_can_be_saved(tmp_path):
    mlp = FeedForward(DIMS).eval()
    x = torch.randn(2, 5, DIMS)
    torch.jit.trace(mlp, x).save(tmp_path / "mlp.pt")
    assert torch.equal(torch.jit.load(tmp_path / "mlp.pt")(x), mlp(x))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="act 'ReLU' is unknown"):
        FeedForward(DIMS, "ReLU")
