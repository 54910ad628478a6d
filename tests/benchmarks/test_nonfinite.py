"""A sample of `benchmarks/reliability/nonfinite.py`: each site once, and each task once."""

from pathlib import Path

import pytest

from benchmarks.reliability.nonfinite import Fault, problems, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "scenes")


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "site", "value", "bfloat16"),
    [
        ("pretrain", "gradient", "nan", False),
        ("cls", "loss", "inf", False),
        ("det", "image", "nan", False),
        ("seg", "weight", "inf", True),
    ],
)
def test_a_value_that_is_not_finite_stops_the_run_and_is_found_again(
    task: str, site: str, value: str, bfloat16: bool, data: Path, tmp_path: Path
):
    assert list(problems(task, Fault(site, value), bfloat16, data, tmp_path / "run")) == []
