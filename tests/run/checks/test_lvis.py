"""LVIS files: what AP is computed from is checked, and mmdet's classes are replaced by ours."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from milan_mm.datasets.coco.reading import read_coco
from milan_mm.errors import UserError
from milan_mm.registry import DATASETS, METRICS
from milan_mm.run.checks.coco import check_coco, use_coco_reader
from tests.evaluation.test_lvis_metric import HEIGHT, NAMES, WIDTH, annotation_file
from tests.run.own_data.folders import write_image

VAL = ("val_dataloader",)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The layout of LVIS v1: images in folders of COCO, named by URLs alone."""
    root = tmp_path_factory.mktemp("lvis_v1")
    for image in annotation_file()["images"]:
        write_image(root / "val2017" / image["coco_url"].rpartition("/")[2], size=(HEIGHT, WIDTH))
    return root


def config(root: Path, content: dict, scope: str = "") -> Config:
    path = root / "lvis.json"
    path.write_text(json.dumps(content))
    dataset = dict(
        type=f"{scope}LVISV1Dataset",
        data_root=str(root),
        ann_file="lvis.json",
        data_prefix=dict(img=""),
        pipeline=[],
        test_mode=True,
    )
    return Config(
        dict(
            default_scope="mmdet",
            model=dict(roi_head=dict(bbox_head=dict(num_classes=len(NAMES)))),
            val_dataloader=dict(dataset=dataset),
            val_evaluator=dict(type=f"{scope}LVISMetric", ann_file=str(path), metric=["bbox"]),
        )
    )


@pytest.mark.parametrize("scope", ["", "mmdet."])
def test_mmdets_classes_which_need_the_package_lvis_are_replaced(root, scope):
    cfg = config(root, annotation_file(), scope)
    use_coco_reader(cfg)
    check_coco(cfg, VAL)
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        METRICS.build(cfg.val_evaluator)
    assert list(dataset.metainfo["classes"]) == NAMES  # those of the file
    first = dataset.get_data_info(0)
    assert first["img_path"] == str(root / "val2017/000000000001.jpg")
    assert {instance["bbox_label"] for instance in first["instances"]} <= {0, 1, 2, 3}


def test_the_log_says_how_many_categories_an_image_was_checked_for(root):
    lines = check_coco(config(root, annotation_file()), VAL)
    (line,) = [line for line in lines if "does not have" in line]
    assert "does not have: 1.0 on average; of which not all objects are annotated: 0.5" in line


def spoil_frequency(content: dict) -> None:
    content["categories"][2]["frequency"] = "often"


def spoil_absent(content: dict) -> None:
    content["images"][1]["neg_category_ids"] = [3, 77]


def leave_out_lists(content: dict) -> None:
    del content["images"][3]["not_exhaustive_category_ids"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_frequency, "category 8 has frequency 'often', not one of r, c, f"),
        (spoil_absent, "image 2 has 77 in neg_category_ids, which is not the id of a category"),
        (leave_out_lists, "image 4 has no list 'not_exhaustive_category_ids'"),
    ],
)
def test_what_ap_cannot_be_computed_from_is_refused(root, spoil, message):
    content = copy.deepcopy(annotation_file())
    spoil(content)
    with pytest.raises(UserError) as caught:
        check_coco(config(root, content), VAL)
    error = str(caught.value)
    assert error.startswith(message) and error.endswith("val_evaluator.type=milan_mm.CocoMetric")


def test_heads_of_another_size_are_refused(root):
    cfg = config(root, annotation_file())
    cfg.model.roi_head.bbox_head.num_classes = 1203
    with pytest.raises(UserError, match=r"bbox_head\.num_classes=1203, but .* has 4 classes"):
        check_coco(cfg, VAL)


def test_names_of_images_come_from_their_urls_where_there_are_none(tmp_path):
    content = annotation_file()
    content["images"][0]["file_name"] = "own.jpg"
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    names = read_coco(path).names
    assert names[:2] == ["own.jpg", "val2017/000000000002.jpg"]
