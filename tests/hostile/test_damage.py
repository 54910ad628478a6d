"""A flipped bit and a missing end are noticed, or change nothing; see benchmarks/reliability."""

from pathlib import Path

import pytest
import torch

from tests.hostile import damage


@pytest.mark.parametrize("kind", damage.FILES)
@pytest.mark.parametrize(("copies", "number"), [(damage.flips, 120), (damage.truncations, 30)])
def test_damage_to_a_file_is_refused_in_one_line_or_without_effect(
    kind: str, copies, number: int, tmp_path: Path
):
    path = damage.FILES[kind][0](tmp_path)
    found = damage.count(kind, copies(path.read_bytes(), number), path)
    assert found.faults == () and found.refused + found.harmless == number
    assert found.refused > number / 2


def test_the_judge_sees_a_single_other_bit(tmp_path: Path):
    path = damage.training_checkpoint(tmp_path)
    one, two = torch.load(path, weights_only=False), torch.load(path, weights_only=False)
    assert damage.equal(one, two)
    two["state_dict"]["0.bias"].view(torch.int32)[3] ^= 1
    assert not damage.equal(one, two)
