"""What a file of LVIS has beyond those of COCO, and what its metric needs of it."""

from collections.abc import Iterator

from milan_mm.datasets.coco.file import CocoFile
from milan_mm.errors import UserError
from milan_mm.text import shown

FREQUENCIES = ("r", "c", "f")  # rare, common and frequent categories
_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
_REMEDY = "take the published file (lvis_v1_val.json), or val_evaluator.type=milan_mm.CocoMetric"


def is_lvis(file: CocoFile) -> bool:
    """Whether the first image and the first category have what only LVIS states."""
    return _LISTS[0] in file.images[0] and "frequency" in file.categories[0]


def check_lvis(file: CocoFile) -> list[str]:
    """Check what LVIS's AP is computed from: frequencies, and the categories looked for per image.

    Returns:
        Lines for the log.

    Raises:
        UserError: Names the first entry that is wrong.
    """
    if detail := next(faults_of_lvis(file), ""):
        raise UserError(f"{detail} (in '{file.path}'), and AP of LVIS needs it: {_REMEDY}")
    absent = {(image["id"], number) for image in file.images for number in image[_LISTS[0]]}
    pairs = {(a["image_id"], a["category_id"]) for a in file.annotations}
    both = len(absent & pairs)
    sums = [sum(len(image[name]) for image in file.images) / len(file.images) for name in _LISTS]
    lines = [
        f"{file.path}: categories that an image does not have: {sums[0]:.1f} on average; of which "
        f"not all objects are annotated: {sums[1]:.1f}; all others count neither way in AP"
    ]
    if both:
        lines.append(
            f"{file.path}: {both:,} times a category is annotated in an image that is said not to "
            "have it: the annotations count"
        )
    return lines


def faults_of_lvis(file: CocoFile) -> Iterator[str]:
    """Every entry that AP of LVIS cannot be computed from."""
    yield from _wrong_categories(file)
    yield from _wrong_images(file)


def _wrong_categories(file: CocoFile) -> Iterator[str]:
    for category in file.categories:
        if category.get("frequency") not in FREQUENCIES:
            yield (
                f"category {category['id']} has frequency {shown(category.get('frequency'))}, not "
                f"one of {', '.join(FREQUENCIES)}"
            )


def _wrong_images(file: CocoFile) -> Iterator[str]:
    known = file.category_names.keys()
    for image in file.images:
        for name in _LISTS:
            numbers = image.get(name)
            if not isinstance(numbers, list):
                yield f"image {image['id']} has no list '{name}'"
            elif strange := [n for n in numbers if not isinstance(n, int) or n not in known]:
                yield (
                    f"image {image['id']} has {shown(strange[0])} in {name}, which is not the id "
                    "of a category"
                )
