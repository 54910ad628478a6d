"""A mistyped path is answered in a moment: before torch and mmengine are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from milan_mm import early
from milan_mm.configs import list_tools

RECIPE = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
NO_WEIGHTS = "error: weights file 'gone.pth' does not exist"
NO_CHECKPOINT = "error: checkpoint 'gone.pth' does not exist"
NO_DATA = "error: --data 'gone' does not exist: give the folder of your images"
MISTAKES = [
    (f"train {RECIPE}x", f"error: config '{RECIPE}x' is neither a file nor a recipe; closest"),
    (f"train {RECIPE} --data gone", NO_DATA),
    (f"train {RECIPE} --weights gone.pth", NO_WEIGHTS),
    (f"test {RECIPE} gone.pth", NO_CHECKPOINT),
    (f"test {RECIPE} here.pth --data gone", NO_DATA),
    ("predict gone.pth photo.jpg --out out", NO_CHECKPOINT),
    ("predict mine.py photo.jpg --out out", "error: 'mine.py' is a config, which has no weights"),
    ("knn --weights gone.pth", NO_WEIGHTS),
    ("knn --weights here.pth --data gone", "error: data folder 'gone' does not exist: give --data"),
    ("evaluate --weights here.pth gone.pth", NO_WEIGHTS),
    ("evaluate --weights here.pth --data gone", "error: data folder 'gone' does not exist: link"),
    ("look attention photo.jpg --weights gone.pth", NO_WEIGHTS),
    ("look detections --checkpoints here.pth gone.pth", NO_CHECKPOINT),
    ("look masks gone.pth photo.jpg", NO_CHECKPOINT),
    ("inspect_weights here.pth gone.pth", NO_WEIGHTS),
    ("train_photographs_clip gone.tar.gz", "error: archive 'gone.tar.gz' does not exist: put it"),
    ("train_photographs_clip gone", "error: photographs 'gone' do not exist: give a folder with"),
    ("convert_checkpoint gone.pth out.safetensors", NO_WEIGHTS),
    ("export_encoder gone.pth out.safetensors", NO_WEIGHTS),
    ("export_encoder here.pth there --to timm", "error: output 'there' exists: pass --force"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistyped_path_is_one_line_before_any_framework_is_imported(
    line: str, message: str, tmp_path: Path
):
    (tmp_path / "here.pth").touch()
    (tmp_path / "there").mkdir()
    name, *words = line.split()
    code = (
        "import sys\n"
        "for module in ('torch', 'mmengine', 'numpy'): sys.modules[module] = None\n"
        f"import runpy; sys.argv = {['tool', *words]!r}\n"
        f"runpy.run_path({str(list_tools()[name])!r}, run_name='__main__')"
    )
    unset = {name: value for name, value in os.environ.items() if name not in early._RANKS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=unset | dict(PYTHONPATH=str(Path(early.__file__).parents[1])),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_of_several_processes_one_answers_later(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with early.early_errors():
        early.check_weights("gone.pth")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["milan-mini-shapes", "hf:owner/name", "timm:vit.dino"])
def test_names_of_encoders_are_not_taken_for_paths(name: str):
    early.check_weights(name)
