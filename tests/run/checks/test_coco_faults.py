"""Each fault of COCO data, wherever it can come in: recipe or --data, each split, check_data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from milan_mm.configs import load
from milan_mm.datasets.coco.faults import Kind
from milan_mm.datasets.coco.reading import read_coco
from milan_mm.datasets.coco.usage import Reason
from milan_mm.datasets.inspecting import read_image
from milan_mm.errors import UserError
from milan_mm.evaluation.coco_metric import _Annotations
from milan_mm.run.checks.coco import FATAL, check_coco
from milan_mm.run.own_data.settings import set_num_classes
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.upkeep import check_coco as upkeep
from milan_mm.upkeep.findings import Findings
from tests.run.own_data.folders import COLOURS, coco_folder

NAME = "instances_train2017.json"
RECIPE = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
LOADERS = dict(train="train_dataloader", val="val_dataloader", test="test_dataloader")


def annotation(**change) -> Callable:
    """Changes the second annotation."""
    return lambda content, _: content["annotations"][1].update(change)


def segmentation(mask: object) -> Callable:
    return annotation(segmentation=mask)


def image(**change) -> Callable:
    """Changes the second image."""
    return lambda content, _: content["images"][1].update(change)


def text_ids(count: int, form: str) -> Callable:
    """Image ids of the first images, here and in the annotations, become text."""

    def change(content: dict, _: Path) -> None:
        for entry in content["images"][:count]:
            entry["id"] = form.format(entry["id"])
        for entry in content["annotations"]:
            if count == len(content["images"]):
                entry["image_id"] = form.format(entry["image_id"])

    return change


def text_categories(content: dict, _: Path) -> None:
    for entry in content["categories"]:
        entry["id"] = f"c{entry['id']}"
    for entry in content["annotations"]:
        entry["category_id"] = f"c{entry['category_id']}"


def turned_photo(content: dict, folder: Path) -> None:
    """Stored lying and shown upright, annotated as it is stored."""
    found = Image.Exif()
    found[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png", exif=found)
    content["images"][0].update(width=40)


CIRCLE = [1, 1, 9, 1, 9, 9, 1, 9]
OUTSIDE = dict(bbox=[99, 3, 9, 9])
NO_POINTS = "annotation 2 of .* has no polygon of three or more points .*: annotate"
FAR = "annotation 2 of .* has a mask with the coordinate .*, the limit is 100000: correct"
# D5, D6, D7, D8 and D9, D18, D2 of the list of faults, in this order
FAULTS = {
    "an area of 0 with a mask": (annotation(area=0), Reason.NO_AREA, "set area to that"),
    "negative sizes": (annotation(bbox=[9, 9, -4, -4]), Reason.SMALL, r"correct the boxes \[x"),
    "a box outside": (annotation(**OUTSIDE), Reason.OUTSIDE, r"correct the boxes \[x"),
    "ignore": (annotation(ignore=1), Reason.IGNORED, "remove the flag to learn"),
    "an unknown image": (annotation(image_id=99), Kind.UNKNOWN_IMAGE, "list the images"),
    "an image of two": (image(id=1), Kind.SHARED_IMAGE, "the id 1 of another image: give every"),
    "text ids": (text_ids(2, "img_{}"), Kind.TEXT_ID, "has id 'img_1', not .*: number images"),
    "ids of digits": (text_ids(2, "{}"), Kind.TEXT_ID, "has id '1', not a whole .*: number images"),
    "mixed ids": (text_ids(1, "{}"), Kind.TEXT_ID, "has id '1', not a whole number: number images"),
    "text in annotations": (annotation(image_id="1"), Kind.TEXT_ID, "annotation 2 .* image_id '1'"),
    "text categories": (text_categories, Kind.TEXT_ID, "category c10 of .* 'blue' has an id"),
    "an empty polygon": (segmentation([[]]), Kind.NO_POLYGON, NO_POINTS),
    "two points": (segmentation([[1, 2, 3, 4]]), Kind.NO_POLYGON, NO_POINTS),
    "an odd number": (segmentation([[*CIRCLE, 5]]), Kind.NO_POLYGON, NO_POINTS),
    "five numbers": (segmentation([[1, 2, 3, 4, 5]]), Kind.NO_POLYGON, NO_POINTS),
    "a flat polygon": (segmentation(CIRCLE), Kind.NO_POLYGON, NO_POINTS),
    "NaN in a polygon": (segmentation([[*CIRCLE, np.nan, 5]]), Kind.BAD_COORDINATE, FAR),
    "1e9 in a polygon": (segmentation([[*CIRCLE, 1e9, 5]]), Kind.BAD_COORDINATE, FAR),
    "a box of NaN": (annotation(bbox=[1, np.nan, 3, 4]), Kind.NO_BOX, "annotation 2 .* has bbox"),
    "an area of NaN": (annotation(area=np.nan), Kind.INCOMPLETE, "annotation 2 of .* has area nan"),
    "run lengths": (
        segmentation(dict(size=[32, 32], counts="~~~~")),
        Kind.BAD_RUNS,
        "annotation 2 of .* counts '~~~~' do not decode to 1024 pixels: export",
    ),
    "an absolute name": (
        image(file_name="/etc/hostname"),
        Kind.STRANGE_NAME,
        "image '/etc/hostname' of .* is not a name inside a folder: give names relative",
    ),
    "a name that climbs": (
        image(file_name="../../a.png"),
        Kind.STRANGE_NAME,
        r"image '\.\./\.\./a\.png' of .* is not a name inside a folder: give names relative",
    ),
    "NUL in a name": (
        image(file_name="a\0b.png"),
        Kind.STRANGE_NAME,
        r"image 'a\\x00b\.png' of .* is not a name inside a folder: give names relative",
    ),
    "a name of 10,000 letters": (
        image(file_name="n" * 10_000),
        Kind.STRANGE_NAME,
        r"image 'n{80}\.\.\.' of .* is not a name inside a folder: give names relative",
    ),
    "a size of 10**9": (
        image(height=10**9, width=10**9),
        Kind.TOO_LARGE,
        "has 1,000,000,000,000,000,000 pixels, the limit is 178,956,970: correct the size",
    ),
    "a size of 10**400": (image(width=10**400), Kind.NO_SIZE, "image '1.png' .* has a size of"),
    "an outline of 900 million pixels": (
        segmentation([[0, 0, 90_000, 90_000] * 5_000]),
        Kind.LONG_OUTLINE,
        "annotation 2 .* an outline of 900,000,000 pixels, the limit is 2,000,000: correct",
    ),
    "a flag of text": (annotation(iscrowd="yes"), Kind.BAD_FLAG, "annotation 2 .* iscrowd 'yes'"),
    "a flag of a list": (annotation(ignore=[[1]]), Kind.BAD_FLAG, r"annotation 2 .* ignore \[\[1"),
    "a mask size of floats": (
        segmentation(dict(size=[32.0, 32.0], counts=[1024])),
        Kind.MASK_SIZE,
        r"annotation 2 .* has a mask of \(height, width\) \[32.0, 32.0\]",
    ),
    "a turned photo": (
        turned_photo,
        "images are turned by their EXIF orientation, and annotated as they are stored",
        r"0\.png' has 32x40 pixels, not 40x32 as annotated: .* remove the orientation from",
    ),
}


@pytest.fixture(params=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> tuple[Callable, object, str]:
    return FAULTS[request.param]


def spoilt_folder(root: Path, split: str, change: Callable[[dict, Path], object]) -> Path:
    """A sound folder, one split of which is changed; validation and test are one."""
    name = ("val" if split == "test" else split) + "2017"
    path = coco_folder(root) / f"annotations/instances_{name}.json"
    content = json.loads(path.read_text())
    change(content, root / name)
    path.write_text(json.dumps(content))
    return root


def recipe_on(root: Path) -> Config:
    """The recipe with its paths and classes set by hand, as its owner would."""
    cfg = load(RECIPE)
    for loader in LOADERS.values():
        split = "train2017" if loader == "train_dataloader" else "val2017"
        cfg[loader].dataset.update(
            data_root=str(root),
            ann_file=f"annotations/instances_{split}.json",
            data_prefix=dict(img=split),
            metainfo=dict(classes=COLOURS),
        )
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / "annotations/instances_val2017.json")
    set_num_classes(cfg.model.roi_head, len(COLOURS))
    return cfg


@pytest.mark.parametrize("split", list(LOADERS))
def test_a_recipe_refuses_it_before_anything_is_built(tmp_path, fault, split):
    change, _, message = fault
    cfg = recipe_on(spoilt_folder(tmp_path, split, change))
    prepare(cfg, RunOptions(work_dir=str(tmp_path / "work")), TRAINING)
    with pytest.raises(UserError, match=message) as error:
        check_coco(cfg, (LOADERS[split],))
    assert f"{tmp_path}/annotations/instances_" in str(error.value)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_own_data_with_it_are_refused(tmp_path, fault, split):
    change, _, message = fault
    root = spoilt_folder(tmp_path, split, change)
    cfg = load(RECIPE)
    with pytest.raises(UserError, match=message):
        prepare(cfg, RunOptions(data=str(root), work_dir=str(tmp_path / "work")), TRAINING)
        check_coco(cfg, (LOADERS["train"], LOADERS["val"]))


@pytest.mark.parametrize("check", [upkeep.check_coco, upkeep.check_coco_folder])
def test_check_data_lists_it(tmp_path, fault, check):
    change, kind, _ = fault
    if isinstance(kind, Reason):
        kind = f"objects are not learnt from: those {kind}"
    findings = Findings(allow_subset=True)
    check(coco_folder(tmp_path / "sound"), findings, 0)
    sound = set(findings.faults)
    check(spoilt_folder(tmp_path / "spoilt", "train", change), findings, 0)
    assert kind in set(findings.faults) - sound
    assert "instances_train2017.json" in (name := findings.faults[kind].names[0]) or "0.png" in name


def test_check_data_lists_a_turned_photo_before_what_follows_from_it(tmp_path):
    def change(content: dict, folder: Path) -> None:
        turned_photo(content, folder)
        content["annotations"][0].update(OUTSIDE)

    findings = Findings(allow_subset=True)
    upkeep.check_coco_folder(spoilt_folder(tmp_path, "train", change), findings, 0)
    first, *others = findings.faults
    assert first.startswith("images are turned") and others
    assert "exiftool -r -Orientation= DIR" in findings.faults[first].remedy


def test_sound_data_pass_everywhere(tmp_path):
    cfg = recipe_on(coco_folder(tmp_path))
    prepare(cfg, RunOptions(), TRAINING)
    assert len(check_coco(cfg, tuple(LOADERS.values()))) == 3 + 1  # D13: noise of the same seeds
    findings = Findings(allow_subset=True)
    upkeep.check_coco_folder(tmp_path, findings, 0)
    assert list(findings.faults) == ["images are in both splits"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_encodings_train_and_are_evaluated(tmp_path, encoding):
    from mmengine.registry import DATASETS, METRICS, DefaultScope

    root = coco_folder(tmp_path)
    for path in (root / "annotations").iterdir():
        path.write_text(path.read_text(), encoding)
    cfg = load(RECIPE)
    prepare(cfg, RunOptions(data=str(root)), TRAINING)
    check_coco(cfg, tuple(LOADERS.values()))
    with DefaultScope.overwrite_default_scope("mmdet"):
        assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2
        assert len(DATASETS.build(cfg.val_dataloader.dataset)) == 2
        METRICS.build(cfg.val_evaluator)


def test_an_image_of_too_many_objects_is_refused(tmp_path):
    def change(content: dict, _: Path) -> None:
        first = content["annotations"][0]
        content["annotations"] = [first | dict(id=number) for number in range(1, 10_002)]

    file = read_coco(spoilt_folder(tmp_path, "train", change) / "annotations" / NAME)
    with pytest.raises(UserError, match=r"'0\.png' .* has 10,001 objects, the limit is 10,000"):
        file.refuse(FATAL, file.problems())


def test_masks_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("milan_mm.datasets.coco.file.MAX_MASKS", 3 * 32 * 32 - 1)
    file = read_coco(coco_folder(tmp_path) / "annotations" / NAME)
    assert not [*file.problems(with_masks=False)]
    with pytest.raises(UserError, match=r"has 3 objects, whose masks would take .* GiB, the limit"):
        file.refuse(FATAL, file.problems())


def test_flags_of_null_are_zero_for_training_and_evaluation(tmp_path):
    def change(content: dict, _: Path) -> None:
        content["annotations"][0].update(iscrowd=None)
        del content["annotations"][1]["iscrowd"]

    path = spoilt_folder(tmp_path, "val", change) / "annotations/instances_val2017.json"
    file = read_coco(path)
    assert not [*file.problems()] and not file.columns.crowd.any()
    assert {a["iscrowd"] for a in _Annotations(str(path)).dataset["annotations"]} == {0}


@pytest.mark.parametrize("split", ["train", "val"])
def test_check_data_opens_no_file_outside_of_the_folder(tmp_path, split, monkeypatch):
    Image.new("RGB", (32, 32)).save(tmp_path / "outside.png")
    root = spoilt_folder(tmp_path / "root", split, image(file_name="../../outside.png"))
    opened = []
    monkeypatch.setattr(
        "milan_mm.upkeep.check_coco.read_image",
        lambda path: opened.append(str(path)) or read_image(path),
    )
    upkeep.check_coco_folder(root, Findings(allow_subset=True), 0)
    assert opened and not any("outside" in path for path in opened)
