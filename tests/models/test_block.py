"""The block: MLP and stochastic depth equal mmcv's, windows a loop over windows."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune
from mmcv.cnn.bricks.drop import DropPath as MMCVDropPath
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.peft import LoRAModel
from torch import Tensor, nn

from milan_mm.models.block import DropPath, EncoderLayer, FeedForward
from tests.helpers import randomise

DIMS = 16


def plain(mlp: FeedForward) -> Callable[[Tensor], Tensor]:
    """The MLP without anything recomputed."""
    return nn.Sequential(*mlp.layers[0], mlp.layers[1])


def output_and_gradients(forward: Callable, x: Tensor, mlp: nn.Module) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = forward(x)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    wanted = [p for p in mlp.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *wanted])]


@pytest.mark.parametrize("act", ["GELU", "QuickGELU", "SiLU"])
@pytest.mark.parametrize("frozen", ["none", "0.0", "1.weight", "weight", "bias"])
def test_names_output_and_gradients_are_those_of_mmcv(act, frozen):
    act_cfg = dict(type="mmpretrain.QuickGELU" if act == "QuickGELU" else act)
    theirs = FFN(DIMS, 4 * DIMS, act_cfg=act_cfg, add_identity=False)
    ours = FeedForward(DIMS, act)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for mlp in (ours, theirs):
        for name, parameter in mlp.named_parameters():
            parameter.requires_grad_(frozen not in name)
    x = torch.randn(2, 5, DIMS)
    found, expected = (output_and_gradients(mlp, x, mlp) for mlp in (ours, theirs))
    for tensor, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-6, atol=1e-6)


def test_in_bfloat16_they_are_those_of_plain_autograd_too():
    mlp = FeedForward(DIMS)
    x = torch.randn(2, 5, DIMS)
    with torch.autocast("cpu", torch.bfloat16):
        found = output_and_gradients(mlp, x, mlp)
        expected = output_and_gradients(plain(mlp), x, mlp)
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


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def double(mlp: FeedForward) -> None:
    mlp.layers[1].register_forward_hook(lambda module, args, out: 2 * out)


def prune(mlp: FeedForward) -> None:
    torch.nn.utils.prune.l1_unstructured(mlp.layers[1], "weight", amount=0.5)


def replace(mlp: FeedForward) -> None:
    mlp.layers[1] = Doubled(4 * DIMS, DIMS)


def approximate(mlp: FeedForward) -> None:
    mlp.layers[0][1] = nn.GELU("tanh")


@pytest.mark.parametrize("change", [double, prune, replace, approximate])
def test_what_is_changed_from_outside_takes_part(change):
    mlp = FeedForward(DIMS)
    change(mlp)
    x = torch.randn(2, 5, DIMS)
    for _ in range(2):  # pruning makes its weight anew in every forward pass
        found = output_and_gradients(mlp, x, mlp)
        for ours, reference in zip(found, output_and_gradients(plain(mlp), x, mlp), strict=True):
            assert torch.equal(ours, reference)


def test_torch_func_differentiates_it_for_every_sample():
    mlp = FeedForward(DIMS)
    x = torch.randn(4, 5, DIMS)

    def loss(sample: Tensor) -> Tensor:
        return mlp(sample).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(x)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(plain(mlp)(x).square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_traced_one_can_be_saved(tmp_path):
    mlp = FeedForward(DIMS).eval()
    x = torch.randn(2, 5, DIMS)
    torch.jit.trace(mlp, x).save(tmp_path / "mlp.pt")
    assert torch.equal(torch.jit.load(tmp_path / "mlp.pt")(x), mlp(x))


@pytest.mark.parametrize("drop_prob", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_path_drops_what_that_of_mmcv_does(drop_prob: float, dtype: torch.dtype):
    x = torch.randn(64, 5, 7).to(dtype)
    outs = []
    for module in (DropPath(drop_prob), MMCVDropPath(drop_prob)):
        torch.manual_seed(0)
        outs.append(module.train()(x))
    assert torch.equal(*outs)


@pytest.mark.parametrize("layer_scale", [None, 1.0])
def test_drop_path_drops_both_branches(layer_scale):
    layer = EncoderLayer(48, 4, drop_path_rate=1 - 1e-6, layer_scale=layer_scale).train()
    x = torch.randn(2, 5, 48)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("grid", [(6, 6), (7, 5), (8, 10), (2, 3)])
@pytest.mark.parametrize("rel_pos_grid", [None, (64, 64)])
def test_window_attention_equals_a_loop_over_padded_windows(grid, rel_pos_grid):
    layer = randomise(EncoderLayer(48, 4, window_size=3, rel_pos_grid=rel_pos_grid)).eval()
    x = torch.randn(2, grid[0] * grid[1], 48)
    normed = layer.ln1(x).unflatten(1, grid)
    rows, cols = -(-grid[0] // 3), -(-grid[1] // 3)
    padded = torch.zeros(2, 3 * rows, 3 * cols, 48)
    padded[:, : grid[0], : grid[1]] = normed
    for row in range(rows):
        for col in range(cols):
            place = (slice(None), slice(3 * row, 3 * row + 3), slice(3 * col, 3 * col + 3))
            attended = layer.attn(padded[place].flatten(1, 2), (3, 3))
            padded[place] = attended.unflatten(1, (3, 3))
    hidden = x + padded[:, : grid[0], : grid[1]].flatten(1, 2)
    expected = hidden + layer.ffn(layer.ln2(hidden))
    torch.testing.assert_close(layer(x, grid), expected, rtol=1e-4, atol=1e-5)
