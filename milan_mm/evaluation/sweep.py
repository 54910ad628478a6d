"""One evaluation by many processes, each of which takes the next cell that none of them has."""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from milan_mm import lifetime
from milan_mm.configs import shipped_folder
from milan_mm.errors import UserError
from milan_mm.escaping import visible

_OPTIONS = ("--parallel", "--print-commands", "--partition")  # each with a value


def own_words(argv: Sequence[str]) -> list[str]:
    """The options of an evaluation without those that start several."""
    words, skipped = [], False
    for word in argv:
        name = word.partition("=")[0]
        if skipped:
            skipped = False
        elif name in _OPTIONS:
            skipped = "=" not in word
        else:
            words.append(word)
    return words


def devices_of(number: int, gpus_each: int, visible_gpus: int) -> list[list[int]]:
    """GPUs of each process, as numbers among the visible ones; empty lists without GPUs.

    Raises:
        UserError: When there are not enough of them.
    """
    if not visible_gpus:
        return [[] for _ in range(number)]
    if number * gpus_each > visible_gpus:
        raise UserError(
            f"--parallel {number} with {gpus_each} GPU(s) for each training needs "
            f"{number * gpus_each}, and {visible_gpus} are visible: give --parallel "
            f"{visible_gpus // gpus_each or 1} or fewer"
        )
    return [list(range(i * gpus_each, (i + 1) * gpus_each)) for i in range(number)]


def run_parallel(argv: Sequence[str], devices: Sequence[Sequence[int]], out: Path) -> int:
    """Start an evaluation for each group of GPUs, and pass on what they print.

    Args:
        argv: Options of tools/evaluate.py.
        devices: See `devices_of`; without GPUs the cores are shared.
        out: Of the results; each process also writes OUT/parallel-N.log.

    Returns:
        The highest exit code; 128 + N of a process that signal N ended, as shells have it.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", str(shipped_folder("tools") / "evaluate.py"), *own_words(argv)]
    processes = [
        subprocess.Popen(
            command,
            env=_environment(gpus, len(devices)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for gpus in devices
    ]
    threads = [
        threading.Thread(target=_pass_on, args=(process, i, out / f"parallel-{i}.log"))
        for i, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    try:
        codes = [process.wait() for process in processes]
        return max(code if code >= 0 else 128 - code for code in codes)
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.wait()
        for thread in threads:
            thread.join()


def array_script(argv: Sequence[str], size: int, gpus: int, partition: str) -> str:
    """A batch script for Slurm, whose tasks share the work: any number of them may run at a time.

    Args:
        argv: Options of tools/evaluate.py. size: Tasks of the array, at most one for each cell.
        gpus: Of each task.
    """
    command = shlex.join(
        [sys.executable, str(shipped_folder("tools") / "evaluate.py"), *own_words(argv)]
    )
    return f"""#!/usr/bin/env bash
#SBATCH --job-name=evaluate
#SBATCH --partition={partition}
#SBATCH --array=0-{size - 1}
#SBATCH --gpus={gpus}
#SBATCH --cpus-per-task={8 * gpus}
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# Each task takes the next cell that no other has, until none is left: add tasks at any time.
cd {shlex.quote(os.getcwd())}
srun {command} &
step=$!
trap 'kill -USR1 $step' USR1  # saves, and ends with code 75
while kill -0 $step 2>/dev/null; do wait $step; code=$?; done
[ "$code" != 75 ] || scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
exit "$code"
"""


def _environment(gpus: Sequence[int], number: int) -> dict[str, str]:
    environment = lifetime.environment()
    if gpus:
        names = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        chosen = [names[i] if len(names) > i and names[0] else str(i) for i in gpus]
        return environment | dict(CUDA_VISIBLE_DEVICES=",".join(chosen))
    threads = max(1, (os.cpu_count() or 1) // number)
    return environment | dict(OMP_NUM_THREADS=str(threads))


def _pass_on(process: subprocess.Popen, number: int, log: Path) -> None:
    assert process.stdout
    with log.open("a", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()
            print(f"[{number}] {visible(line.rstrip())}", flush=True)
