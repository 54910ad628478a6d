"""`predict` agrees with `test`, and says what it skipped."""

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import decode

from milan_mm.run.metrics import read_metrics
from tests.inference.saved import CLS, DET, PRETRAIN, SEG, save_recipe
from tests.run.own_data.folders import coco_folder, image_folder, label_pairs
from tests.tools.conftest import defined_by

FOLDERS: dict[str, Callable[[Path], Path]] = {
    CLS: partial(image_folder, per_class=3),
    DET: coco_folder,
    SEG: label_pairs,
}
IMAGES = {CLS: "val", DET: "val2017", SEG: "images/val"}
CLASSWISE = {
    CLS: ["single-label/precision[red]", "single-label/recall[red]"],
    DET: ["coco/bbox_mAP[red]", "coco/segm_mAP[red]"],
    SEG: ["IoU[red]", "Acc[red]"],
}


@pytest.fixture
def predict(capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run the tool in this process; gives its exit code and what it wrote."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = defined_by("predict")["main"]([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return (code, *capfd.readouterr())

    return run


def save(recipe: str, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Data, config and checkpoint of a recipe on own data, with random weights."""
    data = FOLDERS[recipe](tmp_path / "data")
    config, checkpoint, _ = save_recipe(recipe, tmp_path, data)
    return data, config, checkpoint


@pytest.mark.parametrize("recipe", FOLDERS)
def test_predictions_are_those_of_the_test_tool(tmp_path: Path, recipe: str, call, predict):
    data, config, checkpoint = save(recipe, tmp_path)
    dump, metrics = tmp_path / "tested.pkl", tmp_path / "metrics.json"
    call(
        *("test", config, checkpoint, "--data", data, "--work-dir", tmp_path / "run"),
        *("--out", dump, "--out", metrics, "--classwise", "--show-dir", tmp_path / "shown"),
    )
    tested = {
        Path(sample["img_path"]).resolve(): sample for sample in pickle.loads(dump.read_bytes())
    }
    code, out, _ = predict(
        checkpoint, data / IMAGES[recipe], "--out", tmp_path / "out", "--batch", 2
    )
    assert code == 0 and f"{len(tested)} pictures" in out
    listed = json.loads((tmp_path / "out/images.json").read_text())["images"]
    assert len(listed) == len(tested) > 1
    drawn = {path.relative_to(tmp_path / "shown") for path in (tmp_path / "shown").rglob("*.jpg")}
    for image in listed:
        expected = tested[(data / IMAGES[recipe] / image["file_name"]).resolve()]
        stem = Path(image["file_name"]).with_suffix("")
        assert (tmp_path / "out/pictures" / stem.with_suffix(".jpg")).is_file()
        assert stem.with_suffix(".jpg") in drawn
        {CLS: same_label, DET: same_objects, SEG: same_map}[recipe](
            tmp_path / "out", image, stem, expected
        )
    per_class = [name for name in read_metrics(metrics) if name.endswith("[red]")]
    assert per_class == CLASSWISE[recipe]


def same_label(out: Path, image: dict, stem: Path, expected: dict) -> None:
    entries = json.loads((out / "predictions.json").read_text())
    (found,) = [entry for entry in entries if entry["image_id"] == image["id"]]
    assert found["labels"][0] == int(expected["pred_label"])
    assert found["scores"][0] == pytest.approx(float(expected["pred_score"].max()), abs=1e-5)


def same_objects(out: Path, image: dict, stem: Path, expected: dict) -> None:
    found = COCO(out / "images.json").loadRes(str(out / "predictions.json"))
    objects, wanted = found.loadAnns(found.getAnnIds(image["id"])), expected["pred_instances"]
    assert len(objects) == len(wanted["scores"]) > 0
    order = wanted["scores"].argsort(descending=True, stable=True)
    boxes = wanted["bboxes"][order].numpy()
    boxes[:, 2:] -= boxes[:, :2]
    np.testing.assert_allclose([o["bbox"] for o in objects], boxes, atol=1e-3)
    np.testing.assert_allclose([o["score"] for o in objects], wanted["scores"][order], atol=1e-5)
    for one, index in zip(objects, order.tolist(), strict=True):
        assert (found.annToMask(one) == decode(wanted["masks"][index])).mean() > 0.999


def same_map(out: Path, image: dict, stem: Path, expected: dict) -> None:
    found = np.asarray(Image.open(out / "labels" / stem.with_suffix(".png")))
    np.testing.assert_array_equal(found, expected["pred_sem_seg"]["data"][0].numpy())
    assert "seg_logits" not in expected


def test_pictures_that_cannot_be_read_are_named_and_give_exit_code_1(tmp_path: Path, predict):
    data, _, checkpoint = save(CLS, tmp_path)
    (data / "val/red/bad.png").write_bytes(b"nothing")
    (data / "val/red/photo.heic").touch()
    out = tmp_path / "out"
    code, text, errors = predict(checkpoint, data / "val", "--out", out, "--no-pictures")
    assert code == 1
    assert "9 pictures, 2 skipped" in text
    assert "bad.png: cannot identify image" in errors and "photo.heic: of a type" in errors
    assert not (out / "pictures").exists()
    code, _, errors = predict(checkpoint, data / "val/red/bad.png", "--out", tmp_path / "none")
    assert code == 2 and "none of 1 pictures can be read" in errors
    assert not list((tmp_path / "none").rglob("*.*"))


def test_mistakes_are_one_line_before_anything_is_built(tmp_path: Path, predict, repo_root: Path):
    _, checkpoint, _ = save_recipe(PRETRAIN, tmp_path)
    checkpoint = tmp_path / "epoch_1.pth"
    config = tmp_path / "cfg.py"
    config.write_text("model = dict()")
    picture = tmp_path / "1.png"
    Image.new("RGB", (32, 32)).save(picture)
    for arguments, message in (
        ((checkpoint, picture, "--out", tmp_path / "out"), "pretraining checkpoint, which has no"),
        ((checkpoint, tmp_path / "2.png", "--out", tmp_path / "out"), "2.png' does not exist"),
        ((checkpoint, picture, "--out", picture), "1.png' is not a folder that you can write to"),
        ((picture, picture, "--out", tmp_path / "out"), "is damaged or"),
        ((config, picture, "--out", tmp_path / "out"), "cfg.py' is a config, which has no weights"),
        ((tmp_path / "no.pth", picture, "--out", tmp_path / "out"), "no.pth' does not exist"),
    ):
        code, _, errors = predict(*arguments)
        assert code == 2
        assert errors.splitlines()[-1].startswith("error: ") and message in errors
    assert not (tmp_path / "out").exists()
