"""Truth and predictions side by side: the truth is that of the files, the models share a task."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from milan_mm.datasets.labels import read_labels
from milan_mm.errors import MissingFileError, UserError
from milan_mm.inference.classes import Classes
from milan_mm.look.dense import dense_figure, read_trained, read_truths
from milan_mm.visualization.label_overlay import UNLABELLED
from tests.inference.saved import CLS, DET, SEG, save_recipe
from tests.look.conftest import WORDING
from tests.run.own_data.folders import COLOURS, coco_folder, image_folder, label_pairs


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[str, str], tuple[str, Path]]:
    """A checkpoint of random weights and its data, by recipe and name of the folder."""

    def make(recipe: str, name: str = "a") -> tuple[str, Path]:
        folder = tmp_path / name
        folder.mkdir()
        builders = {DET: coco_folder, SEG: label_pairs, CLS: image_folder}
        data = builders[recipe](folder / "data")
        return str(save_recipe(recipe, folder, data)[1]), data

    return make


def test_objects_of_the_truth_are_those_of_the_annotation_file(trained):
    file, data = trained(DET)
    (model,) = read_trained([file], "det").values()
    truths, root = read_truths(model, None, 4)
    assert root == str(data) and [truth.path.name for truth in truths] == ["0.png", "1.png"]
    content = json.loads((data / "annotations/instances_val2017.json").read_text())
    boxes = [a["bbox"] for a in content["annotations"] if a["image_id"] == 1]
    found = truths[0].found
    np.testing.assert_allclose(found.boxes, [[x, y, x + w, y + h] for x, y, w, h in boxes])
    assert found.labels.tolist() == [0, 1, 2] and found.masks.shape == (3, 32, 32)
    assert found.masks[0, 3:17, 2:14].all() and found.masks[0].sum() <= 15 * 13


def test_labels_of_the_truth_are_those_of_the_file(trained):
    file, data = trained(SEG)
    (model,) = read_trained([file], "seg").values()
    truths, _ = read_truths(model, None, 1)
    labels = read_labels(str(data / "annotations/val/0.png"))
    assert (truths[0].found == np.where(labels == len(COLOURS), UNLABELLED, labels)).all()


def test_another_folder_takes_the_place_of_the_trainings(trained, tmp_path: Path):
    file, _ = trained(DET)
    other = coco_folder(tmp_path / "other", num_images=3)
    (model,) = read_trained([file], "det").values()
    truths, root = read_truths(model, str(other), 4)
    assert root == str(other) and len(truths) == 3


@pytest.mark.parametrize(("recipe", "task"), [(DET, "det"), (SEG, "seg")])
def test_a_figure_names_the_checkpoints(trained, recipe: str, task: str):
    files = [trained(recipe, name)[0] for name in ("mae", "milan")]
    models = read_trained(files, task)
    assert list(models) == ["mae", "milan"]  # by their folders
    truths, root = read_truths(models["mae"], None, 1)
    outcome = dense_figure(models, truths, root, 0.0, WORDING)
    name = {"det": "Mask R-CNN", "seg": "UperNet"}[task]  # as papers call it
    assert f"({name})" in outcome.facts["caption"]
    assert "initialisation" not in outcome.facts["caption"]  # nobody knows
    assert len(outcome.figure.axes) == 4  # image, truth, two models
    for system in outcome.facts["weights"]:
        assert f"sha256 {system['sha256'][:8]}" in outcome.facts["caption"]
    legend = {text.get_text() for text in outcome.figure.legends[0].get_texts()}
    assert legend <= set(COLOURS) and legend


@pytest.mark.parametrize(("recipe", "task"), [(DET, "det"), (SEG, "seg")])
def test_colours_are_those_of_predictions(trained, recipe: str, task: str):
    models = read_trained([trained(recipe)[0]], task)
    truths, root = read_truths(models["a"], None, 1)
    legend = dense_figure(models, truths, root, 0.0, WORDING).figure.legends[0]
    classes = Classes.of(models["a"])
    known = dict(zip(classes.names, classes.colours, strict=True))
    for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True):
        assert (255 * np.array(to_rgb(patch.get_facecolor()))).round().tolist() == list(
            known[text.get_text()]
        )


def test_a_panel_without_objects_says_so(trained):
    models = read_trained([trained(DET)[0]], "det")
    truths, root = read_truths(models["a"], None, 1)
    figure = dense_figure(models, truths, root, 1.0, WORDING).figure
    assert "no objects" in {text.get_text() for text in figure.findobj(Text)}


def test_models_of_another_task_or_of_other_classes_are_refused(trained, tmp_path: Path):
    seg, _ = trained(SEG, "seg")
    with pytest.raises(UserError, match="is a segmentor's checkpoint, not a detector's: see"):
        read_trained([seg], "det")
    det, data = trained(DET, "det")
    fewer = coco_folder(tmp_path / "fewer", categories=("blue", "green"))
    (tmp_path / "b").mkdir()
    other = str(save_recipe(DET, tmp_path / "b", fewer)[1])
    with pytest.raises(UserError, match=r"has other classes than .* \(2 and 3\)"):
        read_trained([det, other], "det")
    (model,) = read_trained([det], "det").values()
    data.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"is not here: give the data, --data DIR"):
        read_truths(model, None, 1)
    with pytest.raises(MissingFileError, match="does not exist"):
        read_truths(model, str(data), 1)
