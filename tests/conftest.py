"""What all tests share: a fixed seed, and the place of the checkout."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import forget_runs

# On cores that are shared, threads that wait for each other make tiny tensors 50 times slower.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same state of every generator, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (mmcv's and mmdet's transforms draw from the global state)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_run_before() -> None:
    """No test sees the scope, the iteration or the log files of another one's run."""
    forget_runs()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout that the tests belong to."""
    return Path(__file__).resolve().parents[1]
