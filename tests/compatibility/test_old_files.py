"""What the code before the rooms has written still loads; see README.md on how it was made."""

import hashlib
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.configs import load
from milan_mm.evaluation.results import read_results
from milan_mm.evaluation.tables import make_tables
from milan_mm.run.building import build_without_memory
from milan_mm.run.prepare import TEST, prepare
from milan_mm.run.records.record import Recorded
from milan_mm.run.run_options import RunOptions
from milan_mm.run.silence import silence
from milan_mm.run.start.origin import Start
from milan_mm.run.training import test as evaluate
from milan_mm.run.training import train
from milan_mm.weights.reading import read_checkpoint

FILES = Path(__file__).parent / "files"
STATE_DICTS = json.loads((FILES / "state_dicts.json").read_text())
# Of the second epoch of the pretraining, as the log of the commit had them
NEXT_LOSSES = [1.7224, 1.7018]


def write_images(root: Path) -> None:
    """Four training and two validation images of two classes, noise that is bright or dark."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("bright", "dark"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                low = 128 * (name == "bright")
                pixels = generator.integers(low, low + 128, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the images and the old files."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    write_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_old_pretraining_resumes_with_the_losses_that_it_had(folder: Path):
    cfg = load("pretraining.py")
    cfg.train_cfg.max_epochs = 12  # as its schedule says
    runner = train(cfg, Start("pretraining.pth", new_length=True), [])
    assert (runner.epoch, runner.iter) == (12, 24)
    (log,) = folder.glob("*/vis_data/scalars.json")
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert losses[:2] == pytest.approx(NEXT_LOSSES, abs=2e-4)


def test_an_old_classifier_is_tested_with_the_accuracy_that_it_had(folder: Path):
    metrics = evaluate(load("classifier.py"), "classifier.pth", [])
    assert metrics["accuracy/top1"] == 100


def test_a_test_of_an_old_checkpoint_says_that_it_has_no_record(folder: Path):
    options = RunOptions(recorded=Recorded.read("classifier.pth"))
    (note,) = prepare(load("classifier.py"), options, TEST)
    assert note.startswith("classifier.pth has no record of its training")


def test_a_test_of_an_old_checkpoint_takes_the_model_from_the_config_in_it(folder: Path):
    content = read_checkpoint("classifier.pth")
    content["meta"]["cfg"] = content["meta"]["cfg"].replace(
        "out_type='avg_featmap'", "out_type='avg_featmap', act='QuickGELU'"
    )
    options = RunOptions(recorded=Recorded.of(content, "classifier.pth"))
    cfg = load("classifier.py")
    notes = prepare(cfg, options, TEST)
    assert "classifier.pth: the model takes act='QuickGELU' from the record" in notes[1]
    assert cfg.model.backbone.act == "QuickGELU"


@pytest.mark.parametrize("weights", ["encoder.safetensors", "pretraining.pth", "classifier.pth"])
def test_old_weights_start_a_transfer(folder: Path, weights: str, repo_root: Path):
    main = runpy.run_path(str(repo_root / "tools/train.py"))["main"]
    main(["classifier.py", "--weights", weights, "--work-dir", "new", "--quick"])
    assert (folder / "new/encoder_weights.json").is_file()


def test_old_results_give_a_table():
    rows = read_results(FILES / "results.jsonl")
    assert [(row["metric"], row["value"]) for row in rows] == [("top-1", 100.0), ("top-5", 100.0)]
    assert len(make_tables(rows)) == 1


@pytest.mark.parametrize("recipe", STATE_DICTS)
def test_names_and_shapes_of_parameters_are_those_of_old_checkpoints(recipe: str):
    with silence():
        model = build_without_memory(load(recipe))
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == STATE_DICTS[recipe]
