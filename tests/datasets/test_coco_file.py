"""What is wrong in a file in COCO's format is found, with the entry and its values."""

import copy
import json
from pathlib import Path

import pytest

from milan_mm.datasets.coco_file import REMEDIES, CocoFile, Kind, read_coco
from milan_mm.errors import MissingFileError, UserError

TRIANGLE = [1, 1, 9, 1, 9, 9]
CONTENT = dict(
    images=[dict(id=i, file_name=f"{i}.jpg", width=32, height=24) for i in (1, 2, 3)],
    annotations=[
        dict(id=i, image_id=i, category_id=7, bbox=[1, 1, 8, 8], area=64.0, segmentation=[TRIANGLE])
        for i in (1, 2)
    ],
    categories=[dict(id=7, name="cat"), dict(id=3, name="dog")],
)


@pytest.fixture
def content() -> dict:
    return copy.deepcopy(CONTENT)


def read(folder: Path, content: object, **settings) -> CocoFile:
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco(path, **settings)


def test_a_sound_file_has_no_problems(tmp_path, content):
    content["annotations"][1].update(iscrowd=1, segmentation=dict(size=[24, 32], counts=[768]))
    file = read(tmp_path, content)
    assert list(file.problems()) == []
    assert file.category_names == {7: "cat", 3: "dog"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_encodings_are_read(tmp_path, content, encoding):
    (tmp_path / "a.json").write_text(json.dumps(content), encoding)
    assert read_coco(tmp_path / "a.json").images == content["images"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"instances\.json' is not a JSON file"),
        ("[]", "has no list 'images': COCO's format needs images, annotations, categories"),
        ('{"images": [], "categories": []}', "has no list 'annotations'"),
        ('{"images": {}, "categories": [], "annotations": []}', "has no list 'images'"),
        ('{"images": [], "categories": [], "annotations": []}', "lists 0 images and 0 categories"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("part", "entry", "message"),
    [
        ("images", "a.jpg", "number 0 of its images is 'a.jpg'"),
        ("images", dict(id=1), "number 0 of its images has no 'file_name'"),
        ("images", dict(id=[1]), r"number 0 of its images has id \[1\]"),
        ("images", dict(CONTENT["images"][0], width=None), "images has no 'width'"),
        ("images", dict(CONTENT["images"][0], width="32"), "images has width '32'"),
        ("categories", 7, "number 0 of its categories is 7"),
        ("categories", dict(id=7, name=7), "number 0 of its categories has name 7"),
    ],
)
def test_images_and_categories_must_be_complete(tmp_path, content, part, entry, message):
    content[part][0] = entry
    with pytest.raises(UserError, match=f"is not in COCO's format: .*{message}"):
        read(tmp_path, content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.json' does not exist"):
        read_coco(tmp_path / "gone.json")


def test_images_to_be_predicted_need_no_annotations(tmp_path, content):
    content.pop("annotations")
    assert read(tmp_path, content, with_annotations=False).annotations == []


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (dict(area=None), Kind.INCOMPLETE, "annotation 2 has no 'area'"),
        (dict(area="64"), Kind.INCOMPLETE, "annotation 2 has area '64'"),
        (dict(bbox=None), Kind.INCOMPLETE, "annotation 2 has no 'bbox'"),
        (dict(image_id=[1]), Kind.INCOMPLETE, "annotation 2 has image_id [1]"),
        (dict(id=None), Kind.INCOMPLETE, "annotation number 1 has no 'id'"),
        (dict(id=1), Kind.SHARED_ID, "annotation 1 has the id of another annotation"),
        (
            dict(category_id=91),
            Kind.UNKNOWN_CATEGORY,
            "annotation 2 has category_id 91, which is none of the categories 7, 3",
        ),
        (dict(image_id=77), Kind.UNKNOWN_IMAGE, "annotation 2 has image_id 77"),
        (
            dict(bbox=[1, 2, 3]),
            Kind.NO_BOX,
            "annotation 2 has bbox [1, 2, 3], not [x, y, width, height]",
        ),
        (
            dict(bbox=[1, 2, "3", 4]),
            Kind.NO_BOX,
            "annotation 2 has bbox [1, 2, '3', 4], not [x, y, width, height]",
        ),
        (
            dict(bbox=[1, 2, float("nan"), 4]),
            Kind.NO_BOX,
            "annotation 2 has bbox [1, 2, nan, 4], not [x, y, width, height]",
        ),
        (
            dict(bbox=[20, 1, 15, 8]),
            Kind.BOX_OUTSIDE,
            "annotation 2 has bbox [x, y, width, height] [20, 1, 15, 8] on an image of 32x24",
        ),
        (
            dict(bbox=[9, 9, -8, 8]),
            Kind.BOX_OUTSIDE,
            "annotation 2 has bbox [x, y, width, height] [9, 9, -8, 8] on an image of 32x24",
        ),
        (dict(segmentation=None), Kind.NO_MASK, "annotation 2 has no mask (segmentation)"),
        (dict(segmentation=[]), Kind.NO_MASK, "annotation 2 has no mask (segmentation)"),
        *(
            (
                dict(segmentation=mask),
                Kind.NO_MASK,
                "annotation 2 has no polygon of three or more points [x, y, x, y, ...]",
            )
            for mask in ([[]], [[1, 2, 3, 4]], [[*TRIANGLE, 5]], TRIANGLE, [["1"] * 6])
        ),
        (
            dict(segmentation=[TRIANGLE, [1, 2, 3, 4]]),
            Kind.BAD_POLYGON,
            "annotation 2 has 1 of 2 polygons that are not three or more points",
        ),
        (
            dict(segmentation=dict(size=[32, 24], counts=[768])),
            Kind.MASK_SIZE,
            "annotation 2 has a mask of (height, width) [32, 24] on an image of [24, 32]",
        ),
        (
            dict(segmentation=dict(size=[24, 32], counts=[5, 3])),
            Kind.MASK_SIZE,
            "annotation 2 has a mask whose counts do not add up to 768 pixels",
        ),
        (
            dict(segmentation=dict(size=[24, 32])),
            Kind.NO_MASK,
            "annotation 2 has a mask without counts",
        ),
    ],
)
def test_what_is_wrong_with_an_annotation_is_named(tmp_path, content, change, kind, text):
    content["annotations"][1].update(change)
    (problem,) = read(tmp_path, content).problems()
    assert (problem.kind, str(problem)) == (kind, text)


def test_an_annotation_that_is_not_an_object_is_named(tmp_path, content):
    content["annotations"].append(7)
    (problem,) = read(tmp_path, content).problems()
    assert (problem.kind, str(problem)) == (Kind.INCOMPLETE, "annotation number 2 is 7")


@pytest.mark.parametrize(
    ("part", "change", "kind", "text"),
    [
        ("categories", dict(name="cat"), Kind.SHARED_CATEGORY, "several categories named 'cat'"),
        ("categories", dict(id=7), Kind.SHARED_CATEGORY, "category 7 is listed twice"),
        ("images", dict(id=1), Kind.SHARED_IMAGE, "image '2.jpg' has the id 1 of another image"),
        ("images", dict(width=0), Kind.NO_SIZE, "image '2.jpg' has a size of 0x24"),
    ],
)
def test_what_is_wrong_with_images_and_categories_is_named(
    tmp_path, content, part, change, kind, text
):
    content["annotations"].pop()
    content[part][1].update(change)
    (problem,) = read(tmp_path, content).problems()
    assert problem.kind == kind and text in str(problem)


def test_annotations_of_unused_categories_may_be_anything_but_share_no_id(tmp_path, content):
    broken = dict(category_id=3, bbox=[1], segmentation=None)
    content["annotations"] += [content["annotations"][0] | broken | dict(id=i) for i in (8, 8)]
    file = read(tmp_path, content)
    assert [problem.kind for problem in file.problems({7})] == [Kind.SHARED_ID]
    assert Kind.NO_BOX in {problem.kind for problem in file.problems()}


def test_masks_are_looked_at_where_they_are_wanted(tmp_path, content):
    content["annotations"][0].pop("segmentation")
    file = read(tmp_path, content)
    assert not list(file.problems(with_masks=False)) and list(file.problems())


def test_objects_are_what_a_detector_learns_from(tmp_path, content):
    first = content["annotations"][0]
    others = (
        dict(iscrowd=1),
        dict(area=0),
        dict(bbox=[1, 1, 0.5, 8]),
        dict(image_id=99),
        dict(category_id=99),
    )
    content["annotations"] = [first | other for other in others]
    file = read(tmp_path, content)
    with pytest.raises(UserError, match="has no object on its 3 images, out of 5 annotations"):
        file.objects()
    content["annotations"] += [first, first | dict(category_id=3)]
    file = read(tmp_path, content)
    assert len(file.objects()) == 2 and len(file.objects({3})) == 1


def test_fatal_problems_are_refused_with_file_and_remedy(tmp_path, content):
    content["annotations"][0].update(bbox=[20, 1, 15, 8], segmentation=[])
    file = read(tmp_path, content)
    file.refuse([Kind.NO_BOX])
    with pytest.raises(UserError, match=r"annotation 1 of '.*instances\.json' has no mask.*: anno"):
        file.refuse([Kind.NO_MASK])
    assert set(REMEDIES) == set(Kind)
