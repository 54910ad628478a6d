"""What answers at once: `--help` of every tool and the import of the package load no framework."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from milan_mm.configs import list_tools

FRAMEWORKS = {"torch", "mmengine", "mmcv", "numpy"}
TOOLS = [name for name, path in list_tools().items() if path.suffix == ".py"]


def run_and_list_frameworks(code: str, cwd: Path) -> tuple[str, set[str]]:
    """Standard output of a Python process, and which frameworks it had imported at its end."""
    note = (
        "import atexit, sys\n"
        f"frameworks = {sorted(FRAMEWORKS)!r}\n"
        "atexit.register(lambda: print(*(f for f in frameworks if f in sys.modules), "
        "file=sys.stderr))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", note + code],
        cwd=cwd,
        env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[2])),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", TOOLS)
def test_help_of_a_tool_shows_an_example_and_imports_no_framework(name: str, tmp_path: Path):
    script = str(list_tools()[name])
    code = f"import runpy; sys.argv = [{script!r}, '--help']\n"
    code += f"runpy.run_path({script!r}, run_name='__main__')"
    out, imported = run_and_list_frameworks(code, tmp_path)
    assert f"python tools/{name}.py" in out
    assert not imported


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["configs"], ["train", "--help"], ["benchmark", "dense", "--help"]],
)
def test_the_command_line_of_the_package_imports_no_framework(arguments: list[str], tmp_path: Path):
    code = f"import runpy; sys.argv = ['milan_mm', *{arguments!r}]\n"
    code += "runpy.run_module('milan_mm', run_name='__main__')"
    out, imported = run_and_list_frameworks(code, tmp_path)
    assert out and not imported
