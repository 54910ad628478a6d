"""Scripts in forks of this process are what they are in processes that Python starts."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.warm import WarmPopen

SCRIPT = """
import atexit, os, sys, warnings
from pathlib import Path
import beside
atexit.register(lambda: print("at the end", beside.NAME))
print(__name__, sys.argv[1:], dict(os.environ), Path.cwd().name, "pytest" in str(sys.stdout))
warnings.warn("careful")
{last}
"""
ENDINGS = {
    "": (0, ""),
    "sys.exit()": (0, ""),
    "sys.exit(75)": (75, ""),
    "sys.exit('error: why')": (1, "error: why\n"),
    "raise KeyError('defect')": (1, "KeyError: 'defect'\n"),
    "os.kill(os.getpid(), 15)": (-15, ""),
}


@pytest.mark.parametrize("in_thread", [False, True], ids=["", "in a thread"])
@pytest.mark.parametrize("last", ENDINGS)
def test_a_script_in_a_fork_runs_and_ends_as_python_runs_it(
    last: str, in_thread: bool, tmp_path: Path
):
    (tmp_path / "here").mkdir()
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    (tmp_path / "script.py").write_text(SCRIPT.format(last=last))

    def run(start: type[subprocess.Popen]) -> tuple[int, str, str]:
        with start(
            [sys.executable, str(tmp_path / "script.py"), "a", "b"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path / "here",
            env=dict(NAME="value", LC_CTYPE="C.UTF-8"),
            text=True,
        ) as process:
            out, errors = process.communicate()
        return process.returncode, out, errors

    with ThreadPoolExecutor(1) as pool:
        code, out, errors = pool.submit(run, WarmPopen).result() if in_thread else run(WarmPopen)
    expected = run(subprocess.Popen)
    assert (code, out) == expected[:2] and code == ENDINGS[last][0]
    assert "UserWarning: careful" in errors and errors.endswith(ENDINGS[last][1])
