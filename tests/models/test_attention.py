"""Which kernel serves attention on GPUs."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend

from milan_mm.models import attention


@pytest.mark.parametrize(("num_keys", "is_chosen"), [(64, True), (65, False)])
def test_on_gpus_the_kernel_of_the_smallest_tiles_serves_few_keys(monkeypatch, num_keys, is_chosen):
    orders = []

    def note(backends: list[SDPBackend], set_priority: bool) -> nullcontext:
        assert set_priority
        orders.append(backends)
        return nullcontext()

    monkeypatch.setattr(attention, "sdpa_kernel", note)
    with FakeTensorMode():  # tensors of a GPU, without one
        q, k = (torch.empty(2, 3, n, 8, device="cuda") for n in (7, num_keys))
        assert attention.attend(q, k, k).shape == q.shape
    assert [order[0] for order in orders] == [SDPBackend.EFFICIENT_ATTENTION] * is_chosen
    assert all(SDPBackend.MATH in order for order in orders)  # for what no other one supports
