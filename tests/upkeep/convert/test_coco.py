"""COCO exports: names of other machines, ids, Roboflow's category 0, splits."""

import json
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from tests.upkeep.convert.folders import (
    SCENE,
    annotations,
    coco,
    converted,
    objects,
    photo,
)


def _write(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _all(out: Path) -> dict:
    return objects(out) | objects(out, "val")


def _with_first(folder: Path, **change: object) -> Path:
    """Four photos, of which the first is stated otherwise."""
    for n in range(4):
        photo(folder / f"{n}.jpg", n)
    content = coco([f"{n}.jpg" for n in range(4)])
    content["images"][0].update(change)
    _write(folder / "result.json", content)
    return folder


def test_a_size_beyond_floats_is_as_good_as_none(tmp_path: Path):
    folder = _with_first(tmp_path / "in", width=10**400, height=10**400)
    converted(folder, tmp_path / "out", val_share=0.25)
    assert len(_all(tmp_path / "out")) == 4


def test_a_long_name_does_not_fill_the_screen(tmp_path: Path):
    folder = _with_first(tmp_path / "in", file_name="n" * 5000)
    with pytest.raises(UserError, match="missing") as error:
        converted(folder, tmp_path / "out", val_share=0.25)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "name",
    [
        "{}.jpg",
        "images/{}.jpg",
        "images\\1/{}.jpg",  # label-studio-converter#139
        "..\\..\\label-studio\\media\\upload\\4\\{}.jpg",  # label-studio#7294
        "/data/local-files/photos/{}.jpg",  # label-studio#4903
        "C:\\photos\\{}.jpg",
        "images/my%20{}.jpg",
        "http://localhost:8080/data/local-files/?d={}.jpg",
        "https://bucket.example/{}.jpg?Key=a/b",
        "images/0a1b2c3d-{}.jpg",  # as Label Studio names uploads
    ],
)
def test_images_are_found_whatever_machine_named_them(tmp_path: Path, name: str):
    for n in range(4):
        own = f"my {n}" if "%20" in name else str(n)
        photo(tmp_path / f"in/images/{own}.jpg", n)
    _write(tmp_path / "in/result.json", coco([name.format(n) for n in range(4)], first_id=0))
    converted(tmp_path / "in", tmp_path / "out", val_share=0.25)
    found = _all(tmp_path / "out")
    assert len(found) == 4 and all(things == SCENE for things in found.values())


def test_of_several_images_of_a_name_the_longest_common_end_decides(tmp_path: Path):
    for n, folder in enumerate("abc"):
        photo(tmp_path / f"in/images/{folder}/0.jpg", n)
    names = [f"/old/{folder}/0.jpg" for folder in "ab"]
    _write(tmp_path / "in/result.json", coco(names))
    lines = converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    assert sorted(_all(tmp_path / "out")) == ["a/0.jpg", "b/0.jpg"]
    assert "left out: 1 image in no annotation file" in lines
    _write(tmp_path / "in/result.json", coco(["/old/0.jpg", "a/0.jpg"]))
    with pytest.raises(UserError, match="of a name that several have"):
        converted(tmp_path / "in", tmp_path / "out2", val_share=0.5)


def test_a_folder_that_is_called_like_another_split_holds_what_a_name_says(tmp_path: Path):
    for n, (split, name) in enumerate(dict(train="bus/0.jpg", val="train/0.jpg").items()):
        photo(tmp_path / f"in/images/{name}", n)
        _write(tmp_path / f"in/annotations/{split}.json", coco([name]))
    converted(tmp_path / "in", tmp_path / "out")
    assert objects(tmp_path / "out", "val") == {"train/0.jpg": SCENE}


def test_an_export_of_cvat_is_split(tmp_path: Path):
    names = [f"{n}.jpg" for n in range(10)]
    for n, name in enumerate(names):
        photo(tmp_path / f"in/images/default/{name}", n)
    file = _write(tmp_path / "in/annotations/instances_default.json", coco(names))
    converted(tmp_path / "in", tmp_path / "out")
    assert len(objects(tmp_path / "out")) == 8 and len(objects(tmp_path / "out", "val")) == 2
    converted(file, tmp_path / "again")  # the file itself
    assert objects(tmp_path / "again", "val") == objects(tmp_path / "out", "val")
    converted(file, tmp_path / "other", seed=1)
    assert objects(tmp_path / "other", "val") != objects(tmp_path / "out", "val")


def _roboflow(root: Path) -> Path:
    for i, split in enumerate(("train", "valid", "test")):
        content = coco(["0.jpg"])
        content["categories"].insert(0, dict(id=0, name="pets", supercategory="none"))
        for category in content["categories"][1:]:
            category["supercategory"] = "pets"
        _write(root / split / "_annotations.coco.json", content)
        photo(root / split / "0.jpg", i)
    return root


def test_category_0_of_roboflow_is_no_class(tmp_path: Path):
    lines = converted(_roboflow(tmp_path / "in"), tmp_path / "out")
    assert "category 'pets' of" in lines[0] and "is the project, not a class: left out" in lines[0]
    for split in ("train", "val", "test"):
        assert objects(tmp_path / "out", split) == {"0.jpg": SCENE}


def test_spaces_around_a_name_are_not_part_of_it(tmp_path: Path):
    content = coco(["0.jpg", "1.jpg"])
    content["categories"][0]["name"] = " cat\n"
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    _write(tmp_path / "in/result.json", content)
    converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    assert all(things == SCENE for things in _all(tmp_path / "out").values())


def test_category_0_with_objects_is_a_class(tmp_path: Path):
    root = _roboflow(tmp_path / "in")
    path = root / "valid/_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 0
    _write(path, content)
    converted(root, tmp_path / "out")
    assert objects(tmp_path / "out", "val")["0.jpg"][0][0] == "pets"


def test_masks_areas_and_crowds_stay_as_they_are(tmp_path: Path):
    content = coco(["0.jpg", "1.jpg"])
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation |= dict(segmentation=[[x, y, x + w, y, x, y + h]], area=7.5, iscrowd=0)
    content["annotations"][0] |= dict(
        iscrowd=1, segmentation=dict(size=[48, 64], counts=[0, 10, 3062])
    )
    _write(tmp_path / "in/result.json", content)
    converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    found = annotations(tmp_path / "out") + annotations(tmp_path / "out", "val")
    keys = ("bbox", "area", "iscrowd", "segmentation")
    picked = [[a[k] for k in keys] for a in found]
    assert sorted(map(str, picked)) == sorted(
        str([a[k] for k in keys]) for a in content["annotations"]
    )


def test_masks_of_cvats_brush_are_objects_and_crowds_between_masks_get_one(tmp_path: Path):
    """datumaro, by which CVAT writes COCO files, sets iscrowd wherever there are run lengths."""
    content = coco(["0.jpg", "1.jpg"])
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    for annotation in content["annotations"]:
        runs = dict(size=[48, 64], counts=[0, 10, 3062])
        annotation |= dict(iscrowd=1, segmentation=runs, attributes=dict(occluded=False))
    content["annotations"][0] |= dict(attributes=dict(occluded=False, is_crowd=True))
    content["annotations"][0].pop("segmentation")
    _write(tmp_path / "in/result.json", content)
    converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    found = annotations(tmp_path / "out") + annotations(tmp_path / "out", "val")
    assert sorted(a["iscrowd"] for a in found) == [0, 0, 0, 1]
    (crowd,) = (a for a in found if a["iscrowd"])
    assert crowd["segmentation"] == [[8, 6, 32, 6, 32, 24, 8, 24]]


def test_ids_may_be_text(tmp_path: Path):
    content = coco(["0.jpg", "1.jpg"])
    for image in content["images"]:
        image["id"] = f"image-{image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"image-{annotation['image_id']}"
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    _write(tmp_path / "in/result.json", content)
    converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    assert all(things == SCENE for things in _all(tmp_path / "out").values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(category_id=9), "of a category that the file does not list"),
        (dict(image_id=9), "of an image that the file does not list"),
        (dict(ignore=1), "with 'ignore' set"),
        (dict(bbox=[1, 2, 3]), "without a box of four numbers"),
        (dict(bbox=[100, 2, 3, 4]), "outside their image"),
        (dict(bbox=[1, 2, float("nan"), 4]), "without a box of four numbers"),
        (dict(category_id=[1]), "of a category that the file does not list"),
        (dict(image_id={}), "of an image that the file does not list"),
        (dict(segmentation=dict(size=[48, 64])), "whose mask cannot be used"),
        (dict(segmentation=dict(size=[48, 64], counts=[3075, -3])), "whose mask cannot be used"),
        (dict(segmentation=dict(size=[24, 64], counts=[1536])), "whose mask cannot be used"),
        (dict(segmentation=[[1, 1, float("nan"), 1, 9, 9]]), "whose mask cannot be used"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(tmp_path: Path, change: dict, message: str):
    content = coco(["0.jpg", "1.jpg"])
    content["annotations"][2] |= change
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    path = _write(tmp_path / "in/result.json", content)
    with pytest.raises(UserError) as refused:
        converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    assert (
        f"1 of 4 objects would be dropped: 1 {message} (first: annotation number 2 of '{path}'"
        in (str(refused.value))
    )


def test_files_whose_names_say_no_split_are_to_be_chosen(tmp_path: Path):
    for name in ("first", "second"):
        _write(tmp_path / f"in/{name}.json", coco(["0.jpg"]))
    with pytest.raises(UserError, match="give the one to convert as SRC"):
        converted(tmp_path / "in", tmp_path / "out")


def test_a_few_objects_without_mask_are_dropped_rather_than_all_masks(tmp_path: Path):
    content = coco(["0.jpg", "1.jpg"])
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    for annotation in content["annotations"][1:]:
        annotation["segmentation"] = [[1, 1, 30, 1, 30, 30]]
    content["annotations"][0]["segmentation"] = [[1, 1, 30, 1]]  # two points
    _write(tmp_path / "in/result.json", content)
    lines = converted(tmp_path / "in", tmp_path / "few", val_share=0.5, max_dropped=0.25)
    assert any("1 without a mask, which the others have (first: " in line for line in lines)
    found = annotations(tmp_path / "few") + annotations(tmp_path / "few", "val")
    assert len(found) == 3 and all(a["segmentation"] for a in found)
    lines = converted(tmp_path / "in", tmp_path / "many", val_share=0.5)
    assert "3 of 4 objects have a mask: all masks are left out, and boxes kept" in lines


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encoding_of_the_file_makes_no_difference(tmp_path: Path, encoding: str):
    for n in range(2):
        photo(tmp_path / f"in/{n}.jpg", n)
    text = json.dumps(coco(["0.jpg", "1.jpg"]))
    (tmp_path / "in/result.json").write_text(text, encoding=encoding)
    converted(tmp_path / "in", tmp_path / "out", val_share=0.5)
    assert all(things == SCENE for things in _all(tmp_path / "out").values())
