"""COCO files as CVAT, Label Studio, Roboflow and others export them: one file, or one per split.

Images are found by the end of their name, ids are numbered anew, and a category 0 that only names
Roboflow's project is left out. Boxes, masks and areas stay as they are. Own code: `labelformat`
0.1.17 stops where `iscrowd` is missing, and hands names on as they are.
"""

from collections.abc import Mapping
from pathlib import Path

from milan_mm.datasets.coco.faults import Kind, is_box, is_finite, is_polygon, mask_problems
from milan_mm.datasets.coco.file import CocoFile
from milan_mm.datasets.coco.reading import take_coco
from milan_mm.datasets.foreign import coco_files, split_of
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list
from milan_mm.upkeep.convert.boxes import around, thing_of
from milan_mm.upkeep.convert.images import Images
from milan_mm.upkeep.convert.samples import ALL, Dropped, Found, Sample, Thing, check_names
from milan_mm.upkeep.convert.source import Source, progress

_FATAL = (Kind.SHARED_CATEGORY, Kind.SHARED_IMAGE)


def read_coco_export(source: Source) -> Found:
    """Read the annotation files of a folder.

    Raises:
        MissingFileError, UserError: When there is none, when several are of one split, or when
            they have different categories.
    """
    files = _by_split(source)
    contents = {split: take_coco(path) for split, path in files.items()}
    images, dropped, notes = Images(source.image_roots), Dropped(), []
    splits: dict[str, list[Sample]] = {}
    classes: list[str] = []
    for split, file in contents.items():
        file.refuse(_FATAL, file.problems(with_masks=False))
        names, project = _categories(file, contents.values())
        own = check_names(names.values(), file.path)
        if project:
            notes.append(
                f"category '{project}' of '{file.path}' is the project, not a class: left out"
            )
        if classes and sorted(own) != sorted(classes):
            differing = sorted({*own} ^ {*classes})
            raise UserError(
                f"'{file.path}' has other categories than the file of train: "
                f"{shorten_list(differing)}; give all files one list"
            )
        classes = classes or own
        numbers = {number: classes.index(name) for number, name in zip(names, own, strict=True)}
        splits[split] = _samples(file, split, source, images, numbers, dropped)
    notes += images.left_out(splits, "in no annotation file")
    return Found(classes, splits, dropped, notes)


def _by_split(source: Source) -> dict[str, Path]:
    """The file of each split; a single one is of `ALL`, whatever its name says."""
    files = coco_files(source.given)
    if not files:
        raise MissingFileError(
            f"'{source.given}' has no JSON file with COCO's lists images, annotations and "
            "categories: give the file itself"
        )
    if len(files) == 1:
        return {ALL: files[0]}
    found: dict[str, Path] = {}
    for path in files:
        split = split_of(path.stem) or split_of(path.parent.name)
        if split is None or split in found:
            other = found.get(split or "", files[0] if path != files[0] else files[1])
            raise UserError(
                f"'{source.root}' has {len(files)} annotation files, and '{other}' and '{path}' "
                "are not of different splits by their names: give the one to convert as SRC"
            )
        found[split] = path
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _categories(file: CocoFile, files: object) -> tuple[dict, str]:
    """Names by id, and the name of Roboflow's category 0, where it is of no object."""
    names = dict(file.category_names)
    parents = {category.get("supercategory") for category in file.categories}
    name = names.get(0)
    everything = [a for other in files for a in other.annotations]  # type: ignore[attr-defined]
    is_project = (
        len(names) > 1
        and name in parents
        and not any(isinstance(a, dict) and a.get("category_id") == 0 for a in everything)
    )
    return (names, "") if not is_project else ({i: n for i, n in names.items() if i}, name or "")


def _samples(
    file: CocoFile,
    split: str,
    source: Source,
    images: Images,
    numbers: Mapping[object, int],
    dropped: Dropped,
) -> list[Sample]:
    found: dict[object, Sample] = {}
    taken: set[Path] = set()
    lost: set[object] = set()
    folders = [file.path.parent, source.root, *source.image_roots]
    near = [
        folder / inner for folder in folders for inner in ("", "images", "images/default", split)
    ]
    for image in progress(file.images, f"reading {split}"):
        name, stated = image["file_name"], (image["width"], image["height"])
        own = None if split == ALL else split
        if sample := images.sample(name, stated, dropped, taken, near, own):
            found[image["id"]] = sample
        else:
            lost.add(image["id"])
    for number, annotation in enumerate(file.annotations):
        where = f"annotation number {number} of '{file.path}'"
        if not isinstance(annotation, dict):
            dropped.object("that are not annotations", where)
            continue
        image_id, category_id = (_id(annotation, name) for name in ("image_id", "category_id"))
        sample, label = found.get(image_id), numbers.get(category_id)
        if image_id in lost:
            continue  # counted as an image
        if sample is None or label is None:
            what = "an image" if sample is None else "a category"
            dropped.object(f"of {what} that the file does not list", where)
        elif annotation.get("ignore"):
            dropped.object("with 'ignore' set", where)
        elif thing := _thing(annotation, label, sample, dropped, where):
            sample.things.append(thing)
    return list(found.values())


def _id(annotation: dict, name: str) -> int | float | str | None:
    value = annotation.get(name)
    return value if isinstance(value, (int, float, str)) else None


def _thing(
    annotation: dict, label: int, sample: Sample, dropped: Dropped, where: str
) -> Thing | None:
    """An annotation, as it is where the box is inside its image."""
    mask, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(mask, list):
        mask = [polygon for polygon in mask if is_polygon(polygon)]
    of_image = dict(width=sample.width, height=sample.height)
    for _, detail in mask_problems(mask, of_image) if mask else ():
        dropped.object("whose mask cannot be used", f"{where} {detail}")
        return None
    if isinstance(mask, list) and mask and not is_box(box):
        box = _box_around(mask)
    if not is_box(box):
        dropped.object("without a box of four numbers", where)
        return None
    x, y, w, h = box
    size = sample.width, sample.height
    crowd, attributes = bool(annotation.get("iscrowd")), annotation.get("attributes")
    if isinstance(attributes, dict) and "occluded" in attributes:
        crowd = bool(attributes.get("is_crowd"))  # CVAT sets iscrowd for every mask of its brush
    checked = thing_of(label, (x, y, x + w, y + h), size, dropped, where, None, crowd)
    if checked is None:
        return None
    inside = min(x, y) >= 0 and x + w <= size[0] and y + h <= size[1]
    area = annotation.get("area")
    known = isinstance(area, (int, float)) and is_finite(area) and area > 0
    return Thing(
        label,
        (x, y, w, h) if inside else checked.box,
        mask or None,
        crowd,
        area if known else None,
    )


def _box_around(polygons: list[list[float]]) -> list[float]:
    x1, y1, x2, y2 = around([value for polygon in polygons for value in polygon])
    return [x1, y1, x2 - x1, y2 - y1]
