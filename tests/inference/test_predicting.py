"""Predictions are the frameworks' own, whatever batch a picture is in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.inference.classes import Classes
from milan_mm.inference.drawn import drawn
from milan_mm.inference.pictures import name_pictures
from milan_mm.inference.predicting import Prediction, Predictor, prediction_pipeline
from milan_mm.inference.restoring import Restored, restore
from milan_mm.inference.samples import Unreadable
from tests.inference.saved import CLS, DET, SEG, save_checkpoint, save_recipe
from tests.run.own_data.folders import coco_folder, write_image

SIZES = [(96, 96), (60, 96), (96, 96), (96, 60), (60, 96)]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Of several sizes, in turn."""
    return [
        str(write_image(tmp_path / "photos" / f"{i}.png", i, size)) for i, size in enumerate(SIZES)
    ]


def restored(recipe: str, folder: Path) -> Restored:
    """A small model of a recipe with random weights."""
    _, path, _ = save_recipe(recipe, folder)
    return restore(path, device="cpu")


def flat(found: object) -> np.ndarray:
    """All numbers of a prediction in one row."""
    parts = [found] if isinstance(found, np.ndarray) else list(vars(found).values())
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


@pytest.mark.parametrize("recipe", [CLS, DET, SEG])
def test_a_prediction_depends_neither_on_the_batch_nor_on_its_neighbours(
    tmp_path: Path, pictures: list[str], recipe: str
):
    model = restored(recipe, tmp_path)
    alone = [flat(next(iter(Predictor(model)(name_pictures([p])))).found) for p in pictures]
    together = list(Predictor(model, batch=3)(name_pictures(pictures)))
    assert [found.picture.path for found in together] == pictures
    assert [found.size for found in together] == SIZES
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(flat(found.found), expected, atol=1e-3)


def test_detections_are_those_of_mmdets_own_inference(tmp_path: Path, pictures: list[str]):
    from mmdet.apis import inference_detector

    model = restored(DET, tmp_path)
    found = list(Predictor(model, batch=2)(name_pictures(pictures)))
    with DefaultScope.overwrite_default_scope("mmdet"):
        model.model.cfg = model.config
        pipeline = Config(dict(steps=prediction_pipeline(model))).steps
        judged = inference_detector(model.model, pictures, test_pipeline=Compose(pipeline))
    assert sum(len(sample.pred_instances) for sample in judged) > 5
    for ours, theirs in zip(found, judged, strict=True):
        assert isinstance(ours, Prediction)
        boxes, scores = theirs.pred_instances.bboxes, theirs.pred_instances.scores
        np.testing.assert_allclose(ours.found.boxes, boxes.numpy(), atol=1e-3)
        np.testing.assert_allclose(ours.found.scores, scores.numpy(), atol=1e-5)
        assert ours.found.masks.shape == (len(boxes), *ours.size)


def test_a_detector_of_boxes_has_no_masks(tmp_path: Path, pictures: list[str]):
    _, path, _ = save_recipe(DET, tmp_path, coco_folder(tmp_path / "data", masks=False))
    model = restore(path, device="cpu")
    found = [one.found for one in Predictor(model, batch=2)(name_pictures(pictures))]
    assert sum(len(objects.boxes) for objects in found) > 5
    assert all(objects.masks is None for objects in found)
    drawn("det", np.zeros((*SIZES[0], 3), np.uint8), found[0], Classes.of(model), 0.0)


def test_label_maps_are_those_of_mmsegs_own_inference(tmp_path: Path, pictures: list[str]):
    from mmseg.apis import inference_model

    model = restored(SEG, tmp_path)
    model.model.cfg = Config(dict(test_pipeline=prediction_pipeline(model)))
    with DefaultScope.overwrite_default_scope("mmseg"):
        judged = [inference_model(model.model, path) for path in pictures]
    for ours, theirs in zip(Predictor(model)(name_pictures(pictures)), judged, strict=True):
        np.testing.assert_array_equal(ours.found, theirs.pred_sem_seg.data[0].numpy())
        assert len(np.unique(ours.found)) > 1


@pytest.mark.parametrize("side", [None, 112])
def test_large_pictures_have_the_labels_of_the_usual_way(
    tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch, side: int | None
):
    model = restored(SEG, tmp_path)
    predictor = Predictor(model, batch=2)
    if side:
        model.model.data_preprocessor.test_cfg = dict(size=(side, side))
    usual = list(predictor(name_pictures(pictures)))
    monkeypatch.setattr("milan_mm.inference.large.LARGE", 0)
    monkeypatch.setattr("milan_mm.inference.large.CLASSES_AT_A_TIME", 2)
    monkeypatch.setattr(model.model, "postprocess_result", None)
    for found, expected in zip(predictor(name_pictures(pictures)), usual, strict=True):
        np.testing.assert_array_equal(found.found, expected.found)
        assert len(np.unique(found.found)) > 1


@pytest.mark.parametrize("place", ["test_dataloader", "tta_pipeline"])
def test_several_scales_are_merged_as_in_the_recipes_test(
    tmp_path: Path, pictures: list[str], place: str
):
    cfg = load(SEG)
    scales = [[dict(type="Resize", scale_factor=s, keep_ratio=True)] for s in (1.0, 0.5)]
    load_step, pack = cfg.test_dataloader.dataset.pipeline[0], dict(type="PackSegInputs")
    views = [[step for [step] in scales], [dict(type="LoadAnnotations")], [pack]]
    views = [load_step, dict(type="TestTimeAug", transforms=views)]
    if place == "tta_pipeline":
        cfg.tta_pipeline = views
    else:
        cfg.test_dataloader.dataset.pipeline = views
    cfg.tta_model = dict(type="milan_mm.MultiScaleSegmentor")
    path, _ = save_checkpoint(cfg, tmp_path / "iter_1.pth")
    model = restore(path, device="cpu")
    (found,) = Predictor(model)(name_pictures(pictures[:1]))
    totals, cfg.tta_model = 0, None
    for scale in scales:
        cfg.test_dataloader.dataset.pipeline = [load_step, *scale, pack]
        path, _ = save_checkpoint(cfg, tmp_path / "single.pth")
        torch.save(torch.load(path) | dict(state_dict=model.model.state_dict()), path)
        single = Predictor(restore(path, device="cpu"))
        sample = single.pipeline(dict(img_path=pictures[0]))
        data = dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]])
        with torch.no_grad():
            totals += single.restored.model.test_step(data)[0].seg_logits.data.softmax(0)
    np.testing.assert_array_equal(found.found, totals.argmax(0).numpy())


def test_a_segmentor_that_sees_pictures_as_they_are_takes_any_size(tmp_path: Path):
    paths = [str(write_image(tmp_path / f"{w}.png", w, (67, w))) for w in (80, 101)]
    sizes = [
        found.found.shape for found in Predictor(restored(SEG, tmp_path))(name_pictures(paths))
    ]
    assert sizes == [(67, 80), (67, 101)]


def test_a_turned_photo_is_predicted_on_as_people_see_it(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.open(write_image(tmp_path / "1.png", size=(40, 96))).save(tmp_path / "1.jpg", exif=exif)
    (found,) = Predictor(restored(SEG, tmp_path))(name_pictures([str(tmp_path / "1.jpg")]))
    assert found.size == found.found.shape == found.image.shape[:2] == (96, 40)


def test_pictures_that_cannot_be_read_are_skipped_in_their_place(
    tmp_path: Path, pictures: list[str]
):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    paths = [*pictures[:2], str(tmp_path / "bad.jpg"), *pictures[2:]]
    found = list(Predictor(restored(CLS, tmp_path), batch=4)(name_pictures(paths)))
    assert [type(one) for one in found] == [Prediction] * 2 + [Unreadable] + [Prediction] * 3
    assert "cannot identify image" in found[2].reason


@pytest.mark.parametrize(("recipe", "size"), [(SEG, (2, 96)), (DET, (10, 5000))])
def test_a_picture_that_the_model_cannot_take_is_skipped_too(
    tmp_path: Path, pictures: list[str], recipe: str, size: tuple[int, int]
):
    paths = [str(write_image(tmp_path / "odd.png", size=size)), *pictures]
    odd, *others = Predictor(restored(recipe, tmp_path), batch=2)(name_pictures(paths))
    assert odd.reason.startswith(f"the model cannot take its {size[1]}x{size[0]} pixels (")
    assert [type(found) for found in others] == [Prediction] * len(pictures)


def test_too_little_memory_is_a_line_with_this_tools_remedy(tmp_path: Path, pictures: list[str]):
    predictor = Predictor(restored(CLS, tmp_path), batch=2)

    def fail(batch: dict) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    predictor._step = fail
    with pytest.raises(UserError, match=r"CUDA out of memory: 2 pictures of .* pass --batch N"):
        list(predictor(name_pictures(pictures)))


@pytest.mark.parametrize("recipe", [CLS, DET, SEG])
def test_in_bfloat16_predictions_stay_close(tmp_path: Path, pictures: list[str], recipe: str):
    model = restored(recipe, tmp_path)
    plain, rough = (
        [next(iter(Predictor(model, amp=amp)(name_pictures(pictures[:1])))).found]
        for amp in (False, True)
    )
    if recipe == CLS:
        np.testing.assert_allclose(rough[0], plain[0], atol=0.05)
        assert not np.array_equal(rough[0], plain[0])
    elif recipe == SEG:
        assert (rough[0] == plain[0]).mean() > 0.8
    else:
        assert rough[0].scores.dtype == np.float32 and len(rough[0].scores)
    assert not hasattr(model.model.backbone.forward, "__wrapped__")
    assert "forward" not in vars(model.model.backbone)
