"""run.json: written when a training starts, with its command and what it changed of its recipe."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import list_configs
from milan_mm.run.options import command
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.records.differences import changes_of
from milan_mm.run.records.record import ORIGIN
from milan_mm.run.records.run_file import FILE, read_run_file
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.origin import Start
from milan_mm.weights.reading import read_checkpoint
from tests.recipes.test_configs import load
from tests.run.tiny_runs import run_tiny, tiny_config


def _changes(recipe: str, **options: object) -> list[dict]:
    cfg: Config = load(recipe)
    prepare(cfg, RunOptions(batch_per_gpu=1, **options), TRAINING)
    return cfg[ORIGIN]["changes"]


@pytest.mark.parametrize("recipe", [name for name in list_configs() if "/ablation/" not in name])
def test_a_recipe_as_it_is_has_no_changes_on_any_machine(recipe):
    assert _changes(recipe) == []


def test_options_are_changes_with_all_that_follows_from_them():
    found = _changes("cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes", epochs=10, lr=0.5)
    fields = {change["field"]: (change["recipe"], change["now"]) for change in found}
    assert fields["optim_wrapper.optimizer.lr"] == (0.001, 0.5)
    assert fields["train_cfg.max_epochs"] == (5, 10)
    assert fields["param_scheduler.1.T_max"] == (5, 10)


def test_a_part_of_another_type_is_one_change():
    before = dict(model=dict(type="A", width=1), hooks=[dict(type="H", interval=1)], lr=1)
    now = dict(model=dict(type="B", depth=2), hooks=[dict(type="H", interval=2)], lr=1.0)
    assert changes_of(before, now) == [
        dict(field="model", recipe=before["model"], now=now["model"]),
        dict(field="hooks.0.interval", recipe=1, now=2),
    ]


def test_each_start_of_a_run_says_what_started_it(tmp_path: Path):
    line = "python tools/train.py tiny"
    first = run_tiny(tiny_config("iterations", tmp_path), command=line, lr=0.25)
    content = read_run_file(first.log_dir)
    assert content is not None
    assert (content["command"], content["start"], content["iterations"]) == (line, 0, 16)
    assert content["plan"][1] == "plan: 16 updates of 8 images, 4 epochs of 4"
    changed = [(c["field"], c["recipe"], c["now"]) for c in content["changes"]]
    assert changed == [("optim_wrapper.optimizer.lr", 0.5, 0.25)]
    saved = read_checkpoint(tmp_path / "iter_16.pth")["meta"]["milan_mm"]
    assert content["record"] == json.loads(json.dumps(saved))

    for update in range(7, 17):
        (tmp_path / f"iter_{update}.pth").unlink()
    again = run_tiny(
        tiny_config("iterations", tmp_path), Start(resume="auto"), lr=0.25, batch_per_gpu=2
    )
    content = read_run_file(again.log_dir)
    assert content is not None
    assert (content["command"], content["start"], content["iterations"]) == ("", 24, 64)


def test_the_log_has_the_command(tmp_path: Path):
    runner = run_tiny(tiny_config("iterations", tmp_path), command="python tools/train.py x")
    (log,) = Path(runner.log_dir).glob("*.log")
    assert "command: python tools/train.py x\n" in log.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 1, "command": 3}'])
def test_a_file_of_another_kind_says_nothing(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_run_file(tmp_path) is None


@pytest.mark.parametrize("start", ["python tools/train.py", "milan-mm train"])
def test_a_command_can_be_typed_again_and_keeps_passwords_to_itself(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    if "tools" in start:  # a checkout
        (tmp_path / "tools").mkdir()
        (tmp_path / "tools/train.py").touch()
    words = ["seg/NAME", "--data", "my photos", "--mlflow", "https://me:secret@host:1/x"]
    assert command("train", words) == (
        f"{start} seg/NAME --data 'my photos' --mlflow 'https://***@host:1/x'"
    )
