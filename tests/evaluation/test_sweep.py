"""Sweeps: an evaluation by several processes, on the GPUs of a node or in batch jobs."""

import subprocess
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.evaluation import sweep

TOOL = """
import os, sys
gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
print(sys.argv[1:], gpus)
sys.exit(gpus == "7")
"""


def test_each_process_has_gpus_of_its_own():
    assert sweep.devices_of(2, 2, 4) == [[0, 1], [2, 3]]
    assert sweep.devices_of(3, 1, 0) == [[], [], []]  # on a CPU
    with pytest.raises(UserError, match="needs 6, and 4 are visible: give --parallel 2 or fewer"):
        sweep.devices_of(3, 2, 4)


@pytest.mark.parametrize("given", [["--parallel", "4"], ["--parallel=4", "--partition", "gpu"], []])
def test_options_that_start_several_are_not_passed_on(given: list[str]):
    assert sweep.own_words(["--weights", "a", *given, "--amp"]) == ["--weights", "a", "--amp"]


def test_their_lines_are_passed_on_with_a_number_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "evaluate.py").write_text(TOOL)
    monkeypatch.setattr(sweep, "shipped_folder", lambda _: tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # a scheduler's choice is kept
    code = sweep.run_parallel(["--weights", "a", "--parallel", "2"], [[0], [1]], tmp_path / "out")
    assert code == 1  # the highest
    monkeypatch.setattr(sweep, "own_words", lambda _: ["killed"])
    assert sweep.run_parallel([], [[0], [1]], tmp_path / "out") == 128 + 9
    said = sorted(capsys.readouterr().out.splitlines())
    assert said == ["[0] ['--weights', 'a'] 4", "[1] ['--weights', 'a'] 7"]
    assert (tmp_path / "out/parallel-1.log").read_text() == "['--weights', 'a'] 7\n"


def test_the_batch_script_is_valid_and_its_tasks_run_the_same_command():
    argv = ["--weights", "my file.pth", "--print-commands", "slurm-array"]
    script = sweep.array_script(argv, 12, 2, "gpu")
    assert "#SBATCH --array=0-11" in script and "#SBATCH --gpus=2" in script
    assert "evaluate.py --weights 'my file.pth' &" in script
    assert "--print-commands" not in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
