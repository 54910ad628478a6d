"""What is wrong in a file in COCO's format is found, with the entry and its values."""

import copy
import json
from pathlib import Path

import pytest

from milan_mm.datasets.coco.faults import REMEDIES, Kind
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.coco.reading import read_coco, take_coco
from milan_mm.errors import MissingFileError, UserError

TRIANGLE = [1, 1, 9, 1, 9, 9]
BOX = dict(bbox=[1, 1, 8, 8], area=64.0, category_id=7, segmentation=[TRIANGLE])
CONTENT = dict(
    images=[dict(id=i, file_name=f"{i}.jpg", width=32, height=24) for i in (1, 2, 3)],
    annotations=[dict(BOX, id=i, image_id=i) for i in (1, 2)],
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
        ("[" * 100_000, "is nested too deeply"),
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


def mask(counts: object, size: tuple[int, int] = (24, 32)) -> dict:
    return dict(segmentation=dict(size=size, counts=counts))


def polygon(value: float) -> dict:
    """A polygon with one odd coordinate."""
    return dict(segmentation=[[*TRIANGLE, value, 5]])


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        (dict(area=None), Kind.INCOMPLETE, "has no 'area'"),
        (dict(area="64"), Kind.INCOMPLETE, "has area '64'"),
        (dict(bbox=None), Kind.INCOMPLETE, "has no 'bbox'"),
        (dict(image_id=[1]), Kind.INCOMPLETE, "has image_id [1]"),
        (dict(category_id=9), Kind.UNKNOWN_CATEGORY, "9, which is none of the categories 7, 3"),
        (dict(image_id=77), Kind.UNKNOWN_IMAGE, "has image_id 77"),
        (dict(bbox=[1, 2, 3]), Kind.NO_BOX, "has bbox [1, 2, 3], not [x, y, width, height]"),
        (dict(bbox=[1, 2, "3", 4]), Kind.NO_BOX, "has bbox [1, 2, '3', 4], not"),
        (dict(bbox=[1, 2, float("nan"), 4]), Kind.NO_BOX, "has bbox [1, 2, nan, 4], not"),
        (dict(bbox=[1, 2, 10**400, 4]), Kind.NO_BOX, "has bbox [1, 2, 1000"),
        (dict(area=float("nan")), Kind.INCOMPLETE, "has area nan"),
        (dict(area=10**400), Kind.INCOMPLETE, "has area 1000"),
        (dict(image_id="2"), Kind.TEXT_ID, "has image_id '2', not a whole number"),
        (dict(image_id=1.5), Kind.TEXT_ID, "has image_id 1.5, not a whole number"),
        (dict(category_id="cat"), Kind.TEXT_ID, "has category_id 'cat', not a whole number"),
        (dict(bbox=[20, 1, 15, 8]), Kind.BOX_OUTSIDE, "[20, 1, 15, 8] on an image of 32x24"),
        (dict(bbox=[9, 9, -8, 8]), Kind.BOX_OUTSIDE, "[9, 9, -8, 8] on an image of 32x24"),
        (dict(segmentation=None), Kind.NO_MASK, "has no mask (segmentation)"),
        (dict(segmentation=[]), Kind.NO_MASK, "has no mask (segmentation)"),
        (dict(segmentation=[[]]), Kind.NO_POLYGON, "has no polygon of three or more points"),
        (dict(segmentation=[[1, 2, 3, 4]]), Kind.NO_POLYGON, "has no polygon"),
        (dict(segmentation=[[*TRIANGLE, 5]]), Kind.NO_POLYGON, "has no polygon"),
        (dict(segmentation=TRIANGLE), Kind.NO_POLYGON, "has no polygon"),
        (dict(segmentation=[["1"] * 6]), Kind.NO_POLYGON, "has no polygon"),
        (dict(segmentation=[TRIANGLE, [1, 2]]), Kind.BAD_POLYGON, "has 1 of 2 polygons that are"),
        (
            polygon(float("nan")),
            Kind.BAD_COORDINATE,
            "has a mask with the coordinate nan, the limit",
        ),
        (
            polygon(1e9),
            Kind.BAD_COORDINATE,
            "has a mask with the coordinate 1000000000.0, the limit",
        ),
        (polygon(-(10**400)), Kind.BAD_COORDINATE, "has a mask with the coordinate -1000"),
        (dict(segmentation=[[1, 1, 9, 1, 9]]), Kind.NO_POLYGON, "has no polygon"),
        (mask("~~~~"), Kind.BAD_RUNS, "counts '~~~~' do not decode to 768 pixels"),
        (mask([-2, 770]), Kind.BAD_RUNS, "has a mask whose counts are not whole numbers"),
        (mask([768.0]), Kind.BAD_RUNS, "has a mask whose counts are not whole numbers"),
        (mask(768), Kind.BAD_RUNS, "has a mask whose counts 768 do not decode"),
        (mask([768], (32, 24)), Kind.MASK_SIZE, "(height, width) [32, 24] on an image of [24, 32]"),
        (mask([5, 3]), Kind.MASK_SIZE, "has a mask whose counts do not add up to 768 pixels"),
        (mask(None), Kind.NO_MASK, "has a mask without counts"),
    ],
)
def test_what_is_wrong_with_an_annotation_is_named(tmp_path, content, change, kind, detail):
    content["annotations"][1].update(change)
    (problem,) = read(tmp_path, content).problems()
    assert (problem.kind, problem.entry) == (kind, "annotation 2")
    assert detail in problem.detail


def test_annotations_without_a_usable_id_are_numbered(tmp_path, content):
    content["annotations"][1]["id"] = None
    content["annotations"].append(7)
    problems = list(read(tmp_path, content).problems())
    assert [str(p) for p in problems] == [
        "annotation number 1 has no 'id'",
        "annotation number 2 is 7",
    ]


@pytest.mark.parametrize(
    ("part", "change", "kind", "text"),
    [
        (
            "annotations",
            dict(id=1),
            Kind.SHARED_ID,
            "annotation 1 has the id of another annotation",
        ),
        ("categories", dict(name="cat"), Kind.SHARED_CATEGORY, "several categories named 'cat'"),
        ("categories", dict(id=7), Kind.SHARED_CATEGORY, "category 7 is listed twice"),
        ("images", dict(id=1), Kind.SHARED_IMAGE, "image '2.jpg' has the id 1 of another image"),
        ("images", dict(width=0), Kind.NO_SIZE, "image '2.jpg' has a size of 0x24"),
        ("images", dict(width=float("nan")), Kind.NO_SIZE, "image '2.jpg' has a size of nanx24"),
        ("images", dict(id="img"), Kind.TEXT_ID, "image '2.jpg' has id 'img', not a whole number"),
        ("images", dict(id=2**63), Kind.TEXT_ID, "image '2.jpg' has id 9223372036854775808, not"),
        ("categories", dict(id="7"), Kind.TEXT_ID, "category 7 'dog' has an id that is not"),
        ("images", dict(file_name="/a.jpg"), Kind.STRANGE_NAME, "image '/a.jpg' is not a name in"),
        ("images", dict(file_name="../a.jpg"), Kind.STRANGE_NAME, "image '../a.jpg' is not"),
        ("images", dict(file_name="a/../../b"), Kind.STRANGE_NAME, "image 'a/../../b' is not"),
        ("images", dict(file_name="C:\\a.jpg"), Kind.STRANGE_NAME, "is not a name inside"),
    ],
)
def test_entries_that_exclude_each_other_or_have_no_size_are_named(
    tmp_path, content, part, change, kind, text
):
    content["annotations"][1]["image_id"] = 1
    content[part][1].update(change)
    (problem,) = read(tmp_path, content).problems()
    assert problem.kind == kind and text in str(problem)


def test_annotations_of_unused_categories_need_an_id_of_their_own_and_a_box(tmp_path, content):
    others = [dict(id=8, bbox=[1, 1, -99, 8]), dict(id=8), dict(id=9, bbox=[1])]
    unused = content["annotations"][0] | dict(category_id=3, segmentation=None)
    content["annotations"] += [unused | other for other in others]
    file = read(tmp_path, content)
    # mmdet takes the box apart before it looks at the category
    assert [problem.kind for problem in file.problems({7})] == [Kind.SHARED_ID, Kind.NO_BOX]
    assert Kind.NO_MASK in {problem.kind for problem in file.problems()}


def test_fatal_problems_are_refused_with_file_and_remedy(tmp_path, content):
    content["annotations"][0].update(bbox=[20, 1, 15, 8], segmentation=[])
    file = read(tmp_path, content)
    file.refuse([Kind.NO_BOX], file.problems())
    with pytest.raises(UserError, match=r"annotation 1 of '.*instances\.json' has no mask.*: anno"):
        file.refuse([Kind.NO_MASK], file.problems())
    assert set(REMEDIES) == set(Kind)


def test_ids_that_are_whole_numbers_with_a_point_are_written_without(tmp_path, content):
    content["images"][1]["id"] = content["annotations"][1]["image_id"] = 2.0
    content["annotations"][0]["category_id"] = 7.0
    file = read(tmp_path, content)
    assert list(file.problems()) == []
    assert type(file.images[1]["id"]) is type(file.annotations[1]["image_id"]) is int


@pytest.mark.parametrize("segmentation", [None, []])
def test_an_area_of_0_without_a_mask_becomes_that_of_the_box(tmp_path, content, segmentation):
    content["annotations"][0].update(area=0)
    content["annotations"][1].update(area=0, segmentation=segmentation)
    file = read(tmp_path, content)
    assert [a["area"] for a in file.annotations] == [0, 64]
    assert file.areas_set == 1


def test_a_file_is_parsed_once_until_it_is_taken_or_changes(tmp_path, content):
    file = read(tmp_path, content)
    assert read_coco(file.path) is file
    assert take_coco(file.path) is file
    again = read_coco(file.path)
    assert again is not file
    content["annotations"].pop()
    assert len(read(tmp_path, content).annotations) == 1
    assert len(take_coco(file.path).annotations) == 1


def test_what_was_read_without_annotations_is_refused_where_they_are_needed(tmp_path, content):
    content.pop("annotations")
    file = read(tmp_path, content, with_annotations=False)
    with pytest.raises(UserError, match="has no list 'annotations'"):
        read_coco(file.path)
