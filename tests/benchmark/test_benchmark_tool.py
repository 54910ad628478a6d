"""`tools/benchmark.py` as a user meets it; test_start_up.py looks at its --help."""

import runpy
import shutil
from pathlib import Path

import pytest


def run_tool(script: Path, *arguments: str) -> int | str | None:
    """Run the tool in this process and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script))["main"]([*arguments])
    return stop.value.code


def test_a_mistake_is_one_line_and_exit_code_2(repo_root: Path, capsys: pytest.CaptureFixture[str]):
    assert run_tool(repo_root / "tools/benchmark.py", "pretrain", "--batch-size", "0") == 2
    assert capsys.readouterr().err == "error: --batch-size 0 --rounds 5: both must be 1 or more\n"


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["flops"], "benchmarks.flops"),
        (["dense"], "benchmarks.dense"),
        (["scale"], "benchmarks.scale"),
        (["pretrain", "--profile"], "benchmarks.sections"),
        (["data", "--dir", "images", "--profile"], "benchmarks.stages"),
        (["data", "--dir", "images", "--short-side", "60"], "benchmarks.copies"),
    ],
)
def test_a_wheel_answers_in_one_line_that_a_benchmark_needs_a_checkout(
    arguments: list[str],
    module: str,
    repo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "tools").mkdir()
    script = shutil.copy(repo_root / "tools/benchmark.py", tmp_path / "tools")
    assert run_tool(script, *arguments) == 2
    assert capsys.readouterr().err == (
        f"error: this benchmark ({module}) is not part of the installed package: run "
        "`python tools/benchmark.py` in a checkout of the repository\n"
    )
