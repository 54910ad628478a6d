"""LVIS's AP against the numbers of its own evaluation, on annotations and detections made here.

They come from lvis-api at commit 7d7f07def1: `LVISEval` on the file that `annotation_file` writes,
and `LVISResults` of `detections`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from milan_mm.evaluation.coco_metric import LVISMetric

HEIGHT, WIDTH = 100, 140
NUM_IMAGES, CATEGORIES = 6, (3, 5, 8, 9)
NAMES = ["oboe", "owl", "oven", "ox"]
FREQUENCIES = "rcff"
LVIS_API = dict(
    bbox=dict(
        AP=0.0709633,
        AP50=0.2342547,
        AP75=0.0332096,
        APs=0.0772772,
        APm=0.1291529,
        APl=-1.0,
        APr=0.1206683,
        APc=0.0334433,
        APf=0.0648707,
    ),
    segm=dict(
        AP=0.0677118,
        AP50=0.2342547,
        AP75=0.0332096,
        APs=0.0725071,
        APm=0.1270077,
        APl=-1.0,
        APr=0.1299092,
        APc=0.0250825,
        APf=0.0579277,
    ),
)


def rectangle(box: list[float]) -> dict:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    x, y, w, h = (round(side) for side in box)
    mask[y : y + h, x : x + w] = 1
    runs = coco_mask.encode(mask)
    return dict(size=runs["size"], counts=runs["counts"].decode())


def annotation_file() -> dict:
    """The content: each image knows some categories, of which not all are complete."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, NUM_IMAGES + 1):
        present = generator.permutation(CATEGORIES)[:2].tolist()
        absent = [number for number in CATEGORIES if number not in present][: image_id % 3]
        images.append(
            dict(
                id=image_id,
                height=HEIGHT,
                width=WIDTH,
                coco_url=f"http://images.cocodataset.org/val2017/{image_id:012d}.jpg",
                neg_category_ids=absent,
                not_exhaustive_category_ids=present[:1] if image_id % 2 else [],
            )
        )
        for category_id in present * 3:
            w, h = generator.uniform(5, 50, 2).tolist()
            x, y = float(generator.uniform(0, WIDTH - w)), float(generator.uniform(0, HEIGHT - h))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category_id,
                    bbox=[x, y, w, h],
                    area=w * h,
                    segmentation=rectangle([x, y, w, h]),
                )
            )
    categories = [
        dict(id=number, name=name, frequency=frequency)
        for number, name, frequency in zip(CATEGORIES, NAMES, FREQUENCIES, strict=True)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def detections(content: dict) -> list[dict]:
    """Boxes near the objects, and wrong ones of every category in every image."""
    generator = np.random.default_rng(1)
    found = []
    for annotation in content["annotations"]:
        box = np.array(annotation["bbox"]) * generator.uniform(0.85, 1.15, 4)
        found.append((annotation["image_id"], annotation["category_id"], box))
    for image in content["images"]:
        for category_id in CATEGORIES:
            found.append((image["id"], category_id, np.array([8.0, 9, 30, 40])))
    scores = generator.permutation(len(found)) / len(found)
    return [
        dict(
            image_id=image_id,
            category_id=category_id,
            bbox=box.tolist(),
            score=float(score),
            segmentation=rectangle(box.tolist()),
        )
        for (image_id, category_id, box), score in zip(found, scores, strict=True)
    ]


def predictions(content: dict, found: list[dict]) -> list[tuple[dict, dict]]:
    """What the metric gets from `process`: ground truth and detections of each image."""
    pairs = []
    for image in content["images"]:
        own = [d for d in found if d["image_id"] == image["id"]]
        boxes = np.array([d["bbox"] for d in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        prediction = dict(
            img_id=image["id"],
            bboxes=boxes,
            scores=np.array([d["score"] for d in own]),
            labels=np.array([CATEGORIES.index(d["category_id"]) for d in own], dtype=int),
            masks=[dict(d["segmentation"]) for d in own],
        )
        pairs.append((dict(img_id=image["id"], height=HEIGHT, width=WIDTH), prediction))
    return pairs


@pytest.fixture
def metric(tmp_path: Path) -> LVISMetric:
    return metric_of(annotation_file(), tmp_path)


def metric_of(content: dict, folder: Path) -> LVISMetric:
    path = folder / "lvis.json"
    path.write_text(json.dumps(content))
    metric = LVISMetric(ann_file=str(path), metric=["bbox", "segm"])
    metric.dataset_meta = dict(classes=NAMES)
    return metric


def test_ap_is_that_of_lvis(metric):
    content = annotation_file()
    found = metric.compute_metrics(predictions(content, detections(content)))
    expected = {f"{kind}_{k}": v for kind, part in LVIS_API.items() for k, v in part.items()}
    assert found == pytest.approx(expected, abs=1e-6)


def test_images_that_were_checked_for_nothing_and_empty_masks_change_nothing(tmp_path):
    content = annotation_file()
    found = detections(content)
    unknown = dict(neg_category_ids=[], not_exhaustive_category_ids=[])
    content["images"].append({**content["images"][0], "id": NUM_IMAGES + 1, **unknown})
    found += [{**d, "image_id": NUM_IMAGES + 1} for d in found[:3]]
    nowhere = [float(WIDTH), float(HEIGHT), 0.0, 0.0]
    found.append({**found[0], "score": 0.99, "bbox": nowhere, "segmentation": rectangle(nowhere)})
    values = metric_of(content, tmp_path).compute_metrics(predictions(content, found))
    expected = {f"{kind}_{k}": v for kind, part in LVIS_API.items() for k, v in part.items()}
    assert values == pytest.approx(expected, abs=1e-6)


def test_an_image_counts_its_best_300_detections(metric):
    content = annotation_file()
    found = detections(content)
    worse = [dict(d, score=d["score"] / 1000 - 1) for d in found for _ in range(300)]
    few = metric.compute_metrics(predictions(content, found))
    many = metric.compute_metrics(predictions(content, worse + found))
    # the 300 hold all of `found`, and of the others those that score best
    assert many["bbox_AP"] == pytest.approx(few["bbox_AP"], abs=0.02)


def test_nothing_found_is_an_ap_of_0(metric):
    content = annotation_file()
    found = metric.compute_metrics(predictions(content, []))
    assert found["bbox_AP"] == found["segm_APr"] == 0
