import pytest
import torch

from milan_mm.engine.agreement import Agreement
from tests.forked import in_processes


def test_a_flag_of_one_process_is_known_to_all_at_the_same_update(tmp_path):
    flags = {0: [0, 0, 0, 0], 1: [0, 0, 2, 0], 2: [0, 1, 0, 0]}

    def updates(rank: int) -> list[int]:
        agreement = Agreement()
        return [agreement.exchange(flag) for flag in flags[rank]]

    assert in_processes(3, updates, tmp_path) == [[0, 1, 2, 0]] * 3


def test_a_process_alone_agrees_with_itself():
    agreement = Agreement()
    assert agreement.latest() == 0
    assert [agreement.exchange(flag) for flag in (0, 3, 0)] == [0, 3, 0]


@pytest.mark.parametrize("value", [True, False])
def test_a_flag_may_be_a_tensor_which_stays_what_it_is(value):
    flag = torch.tensor(value)
    assert Agreement().exchange(flag) == value
    assert flag.dtype == torch.bool and bool(flag) == value
