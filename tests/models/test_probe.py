"""The normalisation in front of a linear probe."""

import pytest
import torch

from milan_mm.models.probe import BatchNormNeck


def test_each_channel_gets_mean_zero_and_variance_one_then_scale_and_shift():
    neck = BatchNormNeck(3)
    torch.nn.init.normal_(neck.norms[0].weight)
    torch.nn.init.normal_(neck.norms[0].bias)
    x = torch.randn(4, 3, 5, 6) * torch.tensor([1.0, 20.0, 0.1])[:, None, None] + 7
    (out,) = neck([x])
    for channel in range(3):
        values = x[:, channel]
        normal = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
        expected = normal * neck.norms[0].weight[channel] + neck.norms[0].bias[channel]
        torch.testing.assert_close(out[:, channel], expected, rtol=1e-4, atol=1e-5)


def test_several_maps_have_statistics_of_their_own():
    neck = BatchNormNeck(2, num_maps=2)
    low, high = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4) + 10
    neck((low, high))
    means = [norm.running_mean.mean() for norm in neck.norms]
    assert means[1] - means[0] > 0.5


def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match="longer than argument 1"):
        BatchNormNeck(2)([torch.zeros(1, 2, 2, 2)] * 2)
