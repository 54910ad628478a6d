"""A model that is spread over processes, of which there is one here; see also test_spread_runs."""

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from milan_mm.engine.finite.state import fill
from milan_mm.engine.norms import is_finite, total_norm
from milan_mm.engine.sharding import FullySharded, gather_weights
from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT

pytestmark = pytest.mark.usefixtures("one_process")
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        arch = dict(embed_dims=16, num_layers=2, num_heads=2)
        self.backbone = PlainViT(arch, img_size=32, out_type="cls_token")
        self.head = nn.Linear(16, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images)[0])


def trained(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of two groups that has taken a step."""
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == m] for m in (1, 0))
    groups = [dict(params=matrices), dict(params=vectors, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    step(model, optimizer)
    return optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    model(images).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_an_optimizer_with_states_goes_on_when_its_model_is_spread():
    whole, spread = Model(), Model()
    optimizer, other = trained(whole), trained(spread)
    wrapper = FullySharded(spread)
    wrapper.shard([other])
    assert all(isinstance(p, DTensor) for group in other.param_groups for p in group["params"])
    step(whole, optimizer)
    step(wrapper, other)
    with wrapper.whole_states([]):
        state = spread.state_dict()
    expected = whole.state_dict()
    assert list(state) == list(expected)
    torch.testing.assert_close(state, expected, rtol=0, atol=1e-7)


def test_a_checkpoint_has_the_layout_of_one_process_and_the_values_of_torchs_own_functions():
    whole, spread = Model(), Model()
    expected, optimizer = trained(whole), trained(spread)
    wrapper = FullySharded(spread)
    wrapper.shard([optimizer])
    with wrapper.whole_states([optimizer]):
        state, mine = spread.state_dict(), optimizer.state_dict()
    assert not any(isinstance(tensor, DTensor) for tensor in state.values())
    torch.testing.assert_close(
        dict(state), get_model_state_dict(spread, options=WHOLE), rtol=0, atol=0
    )
    layout = expected.state_dict()
    assert mine["param_groups"] == layout["param_groups"]
    assert mine["state"].keys() == layout["state"].keys()
    names = {id(p): name for name, p in spread.named_parameters()}
    numbered = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    by_torch = get_optimizer_state_dict(spread, optimizer, options=WHOLE)["state"]
    for number, states in mine["state"].items():
        assert states.keys() == layout["state"][number].keys()
        torch.testing.assert_close(states, dict(by_torch[numbered[number]]), rtol=0, atol=0)


def test_a_spread_model_takes_the_weights_of_a_checkpoint():
    model = FullySharded(Model())
    model.shard()
    wanted = {name: torch.full_like(t, 0.5) for name, t in Model().state_dict().items()}
    fill(model.module, wanted)
    with model.whole_states([]):
        torch.testing.assert_close(dict(model.module.state_dict()), wanted, rtol=0, atol=0)


def test_the_norm_of_shards_and_of_whole_tensors_is_that_of_all():
    model = FullySharded(Model())
    model.shard()
    whole = [parameter.detach() for parameter in Model().parameters()]
    spread = [parameter.detach() for parameter in model.parameters()]
    expected = torch.nn.utils.get_total_norm([*whole, torch.ones(3)])
    torch.testing.assert_close(total_norm([*spread, torch.ones(3)]), expected)
    assert all(map(is_finite, spread))
    spread[0].to_local()[0] = float("nan")
    assert not is_finite(spread[0])


def test_each_block_is_a_group_and_the_rest_is_one():
    model = Model()
    wrapper = FullySharded(model)
    wrapper.shard()
    groups = [m for m in wrapper.modules() if isinstance(m, FSDPModule)]
    assert groups == [wrapper, model, *model.backbone.layers]
    other = FullySharded(Model(), blocks=["PlainViT"])
    other.shard()
    assert isinstance(other.module.backbone, FSDPModule)


def test_gathered_weights_are_whole_until_the_training_goes_on():
    model = FullySharded(Model())
    model.shard()
    gather_weights(model)
    with torch.no_grad():
        model.module.backbone.layers[1](torch.zeros(1, 5, 16))  # not by way of the model itself
    assert not any(isinstance(p, DTensor) for p in model.parameters())


def test_a_parameter_without_dimensions_is_refused():
    model = nn.ParameterDict(dict(scale=nn.Parameter(torch.ones(()))))
    with pytest.raises(UserError, match=r"scale is a single number.*without --fsdp"):
        FullySharded(model).shard()


def test_a_parameter_of_two_blocks_is_refused_and_one_shared_outside_of_them_is_not():
    model = Model()
    model.other_head = model.head
    FullySharded(model).shard()
    model = Model()
    model.other = model.backbone.layers[0].ffn
    with pytest.raises(UserError, match=r"layers\.0\.ffn.* are one parameter.*without --fsdp"):
        FullySharded(model).shard()


def test_a_wrapper_that_no_runner_has_spread_does_not_train():
    with pytest.raises(UserError, match=r"runner_type='milan_mm.ShardedRunner'.*--fsdp"):
        FullySharded(Model()).train_step({}, None)
