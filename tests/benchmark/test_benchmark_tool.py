"""`tools/benchmark.py` as a user meets it."""

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from milan_mm.benchmark import scale


def run_tool(repo_root: Path, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "tools/benchmark.py", *args]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120)


def test_help_imports_no_framework(repo_root: Path):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['benchmark.py', 'pretrain', '--help']\n"
        "try: runpy.run_path('tools/benchmark.py', run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules, 'mmengine' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=60
    )
    assert "--precision" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"


def test_mistakes_are_one_line_and_exit_code_2(repo_root: Path):
    done = run_tool(repo_root, "pretrain", "--batch-size", "0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: --batch-size 0 --rounds 5: both must be 1 or more"
    )


def test_scale_refuses_zero_rounds():
    with pytest.raises(ValueError, match="--rounds 0: must be 1 or more"):
        scale.run(argparse.Namespace(rounds=0, precision="float32"))


def test_flops_of_a_run_grow_with_batch_image_and_model():
    first = scale.FIRST.flops()
    assert scale.Run(batch_size=16).flops() == 2 * first
    small, large = scale.Run(arch="small").flops(), scale.Run(arch="large").flops()
    assert small < first < large
    patches = (288 / 16) ** 2 / (224 / 16) ** 2
    assert patches * first < scale.Run(img_size=288).flops() < patches**2 * first


@pytest.mark.long
def test_two_processes_share_the_batch_of_one():
    tiny = scale.Run(batch_size=2, img_size=32, arch="tiny", processes=2)
    seconds, kept = scale.measure(tiny, "float32", rounds=1)
    assert seconds > 0
    assert kept > 0


def test_kept_memory_is_what_the_backward_pass_needs():
    layers = nn.Sequential(nn.Linear(10, 20), nn.Sigmoid(), nn.Linear(20, 1))
    x = torch.randn(4, 10)
    kept = scale.kept_bytes(lambda: layers(x).sum().backward(), layers)
    assert kept == 4 * (4 * 10 + 4 * 20)  # the input of the first layer, and that of the second


def test_a_process_that_fails_is_reported_with_its_reason():
    run = dataclasses.replace(scale.FIRST, arch="unknown", processes=2)
    with pytest.raises(RuntimeError, match=r"on 2 processes failed: (.|\n)*'unknown'"):
        scale.measure(run, "float32", rounds=1)
