"""COCO AP of our metric against pycocotools, called without mmdet."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from milan_mm.evaluation import coco_metric
from milan_mm.evaluation.coco_metric import CocoMetric
from milan_mm.registry import METRICS

HEIGHT, WIDTH = 120, 160
CLASSES = ("cat", "dog", "bird")
NUM_IMAGES = 6
SETTINGS = dict(metric=["bbox", "segm"])


def rectangle(box: list[float]) -> dict:
    """The mask of a box [x, y, width, height], with one corner cut off."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    x, y, w, h = (round(side) for side in box)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = 1
    mask[max(y, 0) : y + h // 3, max(x, 0) : x + w // 3] = 0
    rle = coco_mask.encode(mask)
    return dict(size=rle["size"], counts=rle["counts"].decode())


def random_box(generator: np.random.Generator) -> list[float]:
    w, h = generator.uniform(4, 110, 2)  # small, medium and large by COCO's measure
    return [float(v) for v in (generator.uniform(0, WIDTH - w), generator.uniform(0, 10), w, h)]


def ground_truth(objects_per_image: int, crowds: bool, first_id: int = 1) -> dict:
    """An annotation file's content."""
    generator = np.random.default_rng(1)
    annotations: list[dict] = []
    for image_id in range(10, 10 + NUM_IMAGES):
        for _ in range(objects_per_image):
            box = random_box(generator)
            mask = rectangle(box)
            annotations.append(
                dict(
                    id=first_id + len(annotations),
                    image_id=image_id,
                    category_id=int(generator.integers(1, 4)) * 5,
                    bbox=box,
                    area=float(coco_mask.area(mask)),
                    iscrowd=int(crowds and len(annotations) % 3 == 0),
                    segmentation=mask,
                )
            )
    images = [
        dict(id=10 + i, file_name=f"{i}.jpg", height=HEIGHT, width=WIDTH) for i in range(NUM_IMAGES)
    ]
    categories = [dict(id=5 * (i + 1), name=name) for i, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)


def predictions(content: dict, extra: int) -> list[dict]:
    """One sample per image: objects moved a little, some doubled or misnamed, and `extra` guesses.

    Scores have one decimal only, so that many are equal.
    """
    generator = np.random.default_rng(2)
    samples = []
    for image in content["images"]:
        boxes, labels = [], []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                for _ in range(int(generator.integers(0, 3))):
                    boxes.append([v + float(generator.normal(0, 1.5)) for v in annotation["bbox"]])
                    right = annotation["category_id"] // 5 - 1
                    labels.append(right if generator.random() < 0.8 else 0)
        boxes += [random_box(generator) for _ in range(extra)]
        labels += generator.integers(0, 3, extra).tolist()
        corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        instances = dict(
            bboxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor(generator.random(len(boxes)).round(1), dtype=torch.float32),
            labels=torch.tensor(labels, dtype=torch.int64),
            masks=[rectangle(box) for box in boxes],
        )
        samples.append(
            dict(img_id=image["id"], ori_shape=(HEIGHT, WIDTH), pred_instances=instances)
        )
    return samples


def write(content: dict, folder: Path) -> str:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return str(path)


def evaluate(path: str, samples: list[dict], **settings) -> dict[str, float]:
    metric = CocoMetric(ann_file=path, **(SETTINGS | settings))
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return metric.evaluate(size=len(samples))


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The twelve numbers of every evaluation by our metric, before mmdet rounds them."""
    found: list[np.ndarray] = []
    summarize = coco_metric._Evaluation.summarize

    def recording(self) -> None:
        summarize(self)
        found.append(np.array(self.stats))

    monkeypatch.setattr(coco_metric._Evaluation, "summarize", recording)
    return found


def reference(path: str, samples: list[dict], iou_type: str) -> np.ndarray:
    """pycocotools' twelve numbers, at mmdet's numbers of detections per image."""
    results = []
    for sample in samples:
        instances = sample["pred_instances"]
        for i, (x1, y1, x2, y2) in enumerate(instances["bboxes"].tolist()):
            result = dict(
                image_id=sample["img_id"],
                category_id=5 * (int(instances["labels"][i]) + 1),
                score=float(instances["scores"][i]),
            )
            if iou_type == "bbox":
                result["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            else:
                result["segmentation"] = instances["masks"][i]
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        if results:
            detections = truth.loadRes(results)
        else:  # which loadRes refuses
            detections = COCO()
            detections.dataset = dict(truth.dataset, annotations=[])
            detections.createIndex()
        evaluation = COCOeval(truth, detections, iou_type)
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize(
    ("objects", "crowds", "extra"),
    [
        pytest.param(5, False, 4, id="objects"),
        pytest.param(5, True, 4, id="crowds"),
        pytest.param(3, False, 150, id="more than 100 detections in an image"),
        pytest.param(0, False, 4, id="no ground truth"),
    ],
)
def test_all_numbers_are_those_of_pycocotools(tmp_path, unrounded, objects, crowds, extra):
    content = ground_truth(objects, crowds)
    path, samples = write(content, tmp_path), predictions(content, extra)
    evaluate(path, samples)
    for found, iou_type in zip(unrounded, ("bbox", "segm"), strict=True):
        expected = reference(path, samples, iou_type)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert (0 < expected[0] < 1) == (objects > 0)  # neither trivially right nor wrong


def test_numbers_are_those_of_pycocotools_where_some_images_have_no_objects(tmp_path, unrounded):
    content = ground_truth(4, crowds=True)
    samples = predictions(content, extra=3)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] > 12]
    path = write(content, tmp_path)
    evaluate(path, samples)
    for found, iou_type in zip(unrounded, ("bbox", "segm"), strict=True):
        np.testing.assert_allclose(found, reference(path, samples, iou_type), rtol=0, atol=1e-12)


def test_finding_nothing_at_all_is_an_ap_of_zero(tmp_path, unrounded):
    content = ground_truth(4, crowds=False)
    path = write(content, tmp_path)
    nothing = predictions(dict(content, annotations=[]), extra=0)
    values = evaluate(path, nothing)
    assert values["coco/bbox_mAP"] == values["coco/segm_mAP"] == 0.0
    for found, iou_type in zip(unrounded, ("bbox", "segm"), strict=True):
        np.testing.assert_array_equal(found, reference(path, nothing, iou_type))


def test_an_object_whose_id_is_zero_counts(tmp_path):
    content = ground_truth(1, crowds=False, first_id=0)
    content["annotations"] = content["annotations"][:1]
    (truth,) = content["annotations"]
    x, y, w, h = truth["bbox"]
    samples = predictions(dict(content, annotations=[]), extra=0)
    samples[0]["pred_instances"] = dict(
        bboxes=torch.tensor([[x, y, x + w, y + h]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([truth["category_id"] // 5 - 1]),
        masks=[truth["segmentation"]],
    )
    values = evaluate(write(content, tmp_path), samples)
    assert values["coco/bbox_mAP"] == values["coco/segm_mAP"] == 1.0


def test_categories_are_those_of_the_classes_only(tmp_path, unrounded):
    content = ground_truth(5, crowds=False)
    samples = predictions(content, extra=2)
    everything = write(content, tmp_path)
    evaluate(everything, samples)
    content["categories"].append(dict(id=99, name="tree"))
    for annotation in content["annotations"][:3]:
        content["annotations"].append(dict(annotation, id=1000 + annotation["id"], category_id=99))
    evaluate(write(content, tmp_path), samples)
    np.testing.assert_array_equal(unrounded[:2], unrounded[2:])


def test_ap_of_each_class_and_the_recall_of_proposals_are_mmdets(tmp_path):
    from mmdet.evaluation.metrics import CocoMetric as Pycoco

    content = ground_truth(5, crowds=True)
    path, samples = write(content, tmp_path), predictions(content, extra=3)
    settings = dict(metric=["bbox", "proposal"], classwise=True)
    found = evaluate(path, samples, **settings)
    metric = Pycoco(ann_file=path, **settings)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    assert found == pytest.approx(metric.evaluate(size=len(samples)), abs=0)


def test_other_metrics_of_mmdet_keep_their_evaluator(tmp_path):
    from mmdet.evaluation.metrics import coco_metric as module

    before = module.COCO, module.COCOeval
    evaluate(write(ground_truth(1, crowds=False), tmp_path), predictions(ground_truth(1, False), 0))
    with pytest.raises(FileNotFoundError):
        CocoMetric(ann_file=str(tmp_path / "gone.json"))
    assert (module.COCO, module.COCOeval) == before
    assert issubclass(module.COCO, COCO)


def test_a_config_finds_the_metric_by_its_scope():
    assert METRICS.get("milan_mm.CocoMetric") is CocoMetric


def test_parts_of_masks_that_are_no_polygons_are_left_out_as_in_training(tmp_path):
    content = ground_truth(2, crowds=False)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    samples = predictions(content, extra=1)
    wanted = evaluate(write(content, tmp_path), samples)
    assert wanted["coco/segm_mAP"] > 0
    for annotation in content["annotations"]:
        annotation["segmentation"].append([0, 0, 150, 0, 150, 110, 5])  # else a large triangle
    assert evaluate(write(content, tmp_path), samples) == wanted
