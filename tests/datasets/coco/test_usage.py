"""What is counted as learnt from is what mmdet's own data set keeps."""

import copy
import json
import random
from pathlib import Path

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric
from mmengine.structures import InstanceData

from milan_mm.datasets.coco.reading import read_coco
from milan_mm.datasets.coco.usage import REMEDIES, Reason, usage
from milan_mm.errors import UserError
from tests.datasets.coco.test_file import CONTENT

CHANGES = {
    Reason.UNKNOWN_IMAGE: dict(image_id=99),
    Reason.UNKNOWN_CATEGORY: dict(category_id=99),
    Reason.IGNORED: dict(ignore=1),
    Reason.SMALL: dict(bbox=[9, 9, -4, -4]),
    Reason.OUTSIDE: dict(bbox=[40, 1, 8, 8]),
    Reason.NO_AREA: dict(area=0),
    Reason.RUN_LENGTHS: dict(segmentation=dict(size=[24, 32], counts=[768])),
    Reason.SMALL_IMAGE: dict(image_id=3),
}


def write(folder: Path, annotations: list[dict]) -> Path:
    content = copy.deepcopy(CONTENT) | dict(annotations=annotations)
    content["images"][2].update(width=8, height=8)
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def objects(changes: list[dict]) -> list[dict]:
    first = CONTENT["annotations"][0]
    return [first | dict(id=i) | change for i, change in enumerate(changes)]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_counted_with_its_first_annotation(tmp_path, reason):
    path = write(tmp_path, objects([{}] * 3 + [CHANGES[reason]] * 2))
    found = usage(read_coco(path), min_size=16, without_run_lengths=True)
    assert {key: numbers.tolist() for key, numbers in found.dropped.items()} == {reason: [3, 4]}
    line = f"3 objects in 1 image are used; 2 are dropped: 2 {reason} (first: annotation 3)"
    assert found.sentence("are used") == line
    with pytest.raises(UserError) as error:
        found.check()
    assert str(error.value) == (
        f"2 of 5 objects of '{path}' would be dropped (2 {reason} (first: annotation 3)), "
        f"the limit is 1%: {REMEDIES[reason]}"
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("names", [("cat",), ("cat", "dog")])
def test_counts_are_those_of_mmdet(tmp_path, seed, names):
    rng = random.Random(seed)
    changes = [*CHANGES.values()][:6]
    changes += [dict(bbox=[30, 20, 9, 9]), dict(category_id=3), {}]
    changes += [dict(bbox=[0, 0, 0.9, 9]), dict(iscrowd=1), dict(area=-1), dict(image_id=2)]
    path = write(
        tmp_path,
        objects([rng.choice(changes) | rng.choice(changes) for _ in range(60)]),
    )
    file = read_coco(path)
    dataset = CocoDataset(
        ann_file=str(path),
        metainfo=dict(classes=names),
        data_prefix=dict(img=""),
        pipeline=[],
        serialize_data=False,
    )
    instances = [i for info in dataset.data_list for i in info["instances"]]
    ids = {c["id"] for c in CONTENT["categories"] if c["name"] in names}
    found = usage(file, ids | {99})
    assert len(found.learnt) == sum(not i["ignore_flag"] for i in instances)
    chosen = [a for a in file.annotations if a["category_id"] in ids | {99}]
    assert len(found.learnt) + found.num_dropped + found.crowds == len(chosen)


def test_one_percent_may_be_dropped(tmp_path):
    file = read_coco(write(tmp_path, objects([{}] * 99 + [dict(area=0)])))
    usage(file).check()
    file = read_coco(write(tmp_path, objects([{}] * 98 + [dict(area=0)])))
    with pytest.raises(UserError, match="1 of 99 objects"):
        usage(file).check()


def test_crowds_and_images_without_objects_are_the_protocol(tmp_path):
    found = usage(read_coco(write(tmp_path, objects([{}, dict(iscrowd=1, area=0)]))))
    found.check()
    assert found.sentence("are used") == (
        "1 object in 1 image is used; 1 crowd region is ignored, as the protocol asks"
    )
    assert found.empty == 2


def test_data_without_any_object_are_refused(tmp_path):
    found = usage(read_coco(write(tmp_path, objects([dict(iscrowd=1)]))))
    with pytest.raises(UserError, match="has no object on its 3 images, out of 1 annotations"):
        found.check()


@pytest.mark.parametrize("reason", [*CHANGES][:6])
def test_an_evaluation_counts_what_pycocotools_counts(tmp_path, reason):
    changes = {}, dict(image_id=2) | CHANGES[reason]
    path = write(
        tmp_path, objects([dict(iscrowd=0, id=i) | change for i, change in enumerate(changes, 1)])
    )
    metric = CocoMetric(ann_file=str(path), metric="bbox")
    metric.dataset_meta = dict(classes=("cat", "dog"))
    for image_id in (1, 2, 3):  # a perfect detector of the first object
        first = objects([{}])[0]
        x, y, w, h = first["bbox"]
        found = InstanceData(
            bboxes=torch.tensor([[x, y, x + w, y + h]])[: image_id == 1],
            scores=torch.ones(1)[: image_id == 1],
            labels=torch.zeros(1, dtype=torch.int64)[: image_id == 1],
        )
        metric.process({}, [dict(img_id=image_id, ori_shape=(24, 32), pred_instances=found)])
    is_missed = metric.evaluate(3)["coco/bbox_mAP"] < 0.9
    counted = usage(read_coco(path), is_evaluation=True)
    assert len(counted.learnt) == 1 + is_missed
    assert (list(counted.unlearnable) == [reason]) == is_missed
    with pytest.raises(UserError, match="count in AP" if is_missed else "would be dropped"):
        counted.check()
