"""What the shell offers on Tab after `milan-mm`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from milan_mm.configs import list_configs, list_tools


def offered(line: str, tmp_path: Path) -> list[str]:
    """The completions of a line, as argcomplete's own lines for bash ask for them."""
    answer = tmp_path / "answer"
    environment = dict(
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        COMP_TYPE="9",
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        PYTHONPATH=str(Path(__file__).parents[1]),
    )
    command = [sys.executable, "-m", "milan_mm"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | environment, check=True, timeout=60)
    return [word.strip() for word in answer.read_text().split("\n")] if answer.exists() else []


@pytest.mark.parametrize(
    "line, expected",
    [
        ("milan-mm tra", {name for name in list_tools() if name.startswith("tra")}),
        ("milan-mm cons", {"constraints"}),
        ("milan-mm train det/", {name for name in list_configs() if name.startswith("det/")}),
        ("milan-mm train --we", {"--weights"}),
        ("milan-mm train NAME --launcher ", {"none", "pytorch", "slurm", "mpi"}),
        ("milan-mm benchmark fl", {"flops"}),
        ("milan-mm benchmark dense --ca", {"--cases"}),
        ("milan-mm dist_train seg/", {name for name in list_configs() if name.startswith("seg/")}),
        ("milan-mm doctor ", set()),
    ],
)
def test_tab_offers_tools_recipes_and_options(line: str, expected: set[str], tmp_path: Path):
    assert set(offered(line, tmp_path)) == expected


def test_tab_offers_own_config_files_beside_the_recipes(tmp_path: Path):
    (tmp_path / "mine.py").touch()
    assert offered("milan-mm train min", tmp_path) == ["mine.py"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_lines_that_name_the_command(shell: str):
    command = [sys.executable, "-m", "milan_mm", "completion", shell]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "milan-mm" in printed


def test_an_unknown_shell_is_refused_with_the_known_ones():
    command = [sys.executable, "-m", "milan_mm", "completion", "ksh"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "milan-mm: 'ksh': name your shell (bash, zsh, fish)" in done.stderr
