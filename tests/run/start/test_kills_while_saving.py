"""A training may be killed at any moment of a save."""

from pathlib import Path

import pytest

from benchmarks.reliability.kills_while_saving import count_kills


@pytest.mark.long
def test_a_kill_while_saving_costs_no_checkpoint_and_leaves_nothing(tmp_path: Path):
    well, _, left = count_kills(tmp_path / "run", kills=2, seed=0)
    assert well == 2 and left == 0
