"""Label maps: Pascal VOC's SegmentationClass, Roboflow's masks, images beside a folder of masks.

Values that are numbers of classes stay as they are; colours, and numbers with gaps, are translated.
`labelformat` turns VOC's masks into objects and knows none of the others, so this is own code.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from milan_mm.datasets.decoding import open_image, reason_of
from milan_mm.datasets.foreign import pair_folder, split_of
from milan_mm.datasets.labels import IGNORED, MAX_VALUE
from milan_mm.datasets.pair_folder import IMAGES, LABELS, read_classes, read_lines
from milan_mm.errors import MissingFileError, UserError
from milan_mm.files import read_regular
from milan_mm.upkeep.convert.images import Images
from milan_mm.upkeep.convert.samples import ALL, Dropped, Found, Sample, check_names
from milan_mm.upkeep.convert.source import Source
from milan_mm.upkeep.convert.voc import split_lists

_SUFFIX = "_mask"  # of Roboflow's masks, beside their images
_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_VOID_COLOUR = (224, 224, 192)  # VOC's borders between objects


def read_voc_masks(source: Source) -> Found:
    """Read SegmentationClass; classes are those of labelmap.txt (CVAT), classes.txt, or VOC's.

    Raises:
        MissingFileError, UserError: When there are no masks, or their classes are not known.
    """
    root = source.root
    masks = Images([root / "SegmentationClass"])
    if not masks.paths:
        raise MissingFileError(f"'{root / 'SegmentationClass'}' has no masks")
    classes, colours, note = _voc_classes(root)
    dropped, notes = Dropped(), [note]
    outside = [path for path in (root / "JPEGImages", root / "images", root) if path.is_dir()]
    folder = root / "SegmentationClass"
    others = folder, root / "SegmentationObject"
    images = Images(
        [source.images] if source.images else outside[:1],
        without=lambda path: any(path.is_relative_to(other) for other in others),
    )
    by_stem = {m.relative_to(folder).with_suffix("").as_posix(): m for m in masks.paths}
    lists = split_lists(root, "Segmentation") or {ALL: list(by_stem)}
    splits = {}
    for split, stems in lists.items():
        pairs = [(stem, by_stem.get(stem)) for stem in stems]
        if split == "test" and not any(mask for _, mask in pairs):
            notes.append(f"none of the {len(stems):,} images of test has a mask: left out")
            continue
        for stem, mask in pairs:
            if mask is None:
                dropped.image("that a list names, and that have no mask", stem)
        splits[split] = _pair([m for _, m in pairs if m], images, dropped, colours)
    notes += images.left_out(splits, "without a mask, or in no list")
    return Found(classes, splits, dropped, notes)


def read_roboflow_masks(source: Source) -> Found:
    """Read SPLIT/*.jpg, SPLIT/*_mask.png and SPLIT/_classes.csv.

    Raises:
        UserError: When the splits have different classes.
    """
    files = sorted([*source.root.glob("_classes.csv"), *source.root.glob("*/_classes.csv")])
    values: dict[int, str] = {}
    dropped = Dropped()
    splits: dict[str, list[Sample]] = {}
    for file in files:
        own = _roboflow_classes(file)
        if values and own != values:
            raise UserError(f"'{file}' and '{files[0]}' have different classes: export them again")
        values = own
    classes = check_names(values.values(), files[0])
    straight = list(values) == list(range(len(values)))
    table = None if straight else {value: number for number, value in enumerate(values)}
    for file in files:
        folder = file.parent
        masks = [p for p in Images([folder]).paths if p.stem.endswith(_SUFFIX)]
        images = Images([folder], without=lambda path: path.stem.endswith(_SUFFIX))
        split = split_of(folder.name) if folder != source.root else None
        samples = _pair(masks, images, dropped, table, _SUFFIX)
        splits.setdefault(split or ALL, []).extend(samples)
    return Found(classes, splits, dropped)


def read_pairs(source: Source) -> Found:
    """Read images/, masks/ and classes.txt, without splits.

    Raises:
        MissingFileError, UserError: When classes.txt does not name the classes.
    """
    root, dropped = source.root, Dropped()
    folders = [pair_folder(root, names) for names in (IMAGES, LABELS)]
    if None in folders:
        raise MissingFileError(f"'{root}' has no folders images/ and masks/: put the files there")
    classes = read_classes(root / "classes.txt")
    images, masks = (Images([folder]) for folder in folders if folder)
    splits = {ALL: _pair(masks.paths, images, dropped)}
    return Found(classes, splits, dropped, images.left_out(splits, "without a mask"))


def read_mask(path: Path) -> np.ndarray:
    """The values of a label map, (H, W), or its colours, (H, W, 3); of a palette the numbers.

    Raises:
        UserError: When it cannot be read.
    """
    try:
        with open_image(read_regular(path)) as image:
            is_grey = len(image.getbands()) == 1
            values = np.asarray(image if is_grey else image.convert("RGB"))
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise UserError(
            f"mask '{path}' cannot be read: {reason_of(error)}; repair it, or remove it and its "
            "image"
        ) from None
    if values.dtype == bool:
        return values.astype(np.uint8)
    is_whole = values.dtype.kind in "ui"
    if not is_whole or values.min(initial=0) < 0 or values.max(initial=0) > MAX_VALUE:
        raise UserError(
            f"mask '{path}' has values that are not whole numbers of 0 to {MAX_VALUE}: save it "
            "with 8 bits per pixel"
        )
    return values


def translate(mask: np.ndarray, table: Mapping) -> np.ndarray:
    """Numbers of classes, (H, W) uint8, from values or colours; others become 255, "not labelled".

    Args:
        table: From a value, or from a colour (red, green, blue), to the number of a class.
    """
    if mask.ndim == 2:
        wide = np.full(max(int(mask.max()), 255) + 1, IGNORED, np.uint8)
        for value, number in table.items():
            if isinstance(value, int) and value < len(wide):
                wide[value] = number
        return wide[mask]
    codes = mask.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    labels = np.full(codes.shape, IGNORED, np.uint8)
    for colour, number in table.items():
        if isinstance(colour, tuple):
            labels[codes == (colour[0] << 16) + (colour[1] << 8) + colour[2]] = number
    return labels


def voc_colours(number: int) -> list[tuple[int, int, int]]:
    """Pascal VOC's colours: the bits of the class number, spread over red, green and blue."""
    colours = []
    for index in range(number):
        red = green = blue = 0
        for bit in range(8):
            red |= (index >> (3 * bit) & 1) << (7 - bit)
            green |= (index >> (3 * bit + 1) & 1) << (7 - bit)
            blue |= (index >> (3 * bit + 2) & 1) << (7 - bit)
        colours.append((red, green, blue))
    return colours


def _pair(
    masks: Sequence[Path],
    images: Images,
    dropped: Dropped,
    table: Mapping | None = None,
    suffix: str = "",
) -> list[Sample]:
    """Each mask with the image of its name."""
    samples, used = [], set()
    for mask in masks:
        found = images.with_stem(mask.stem.removesuffix(suffix) if suffix else mask.stem)
        near = [path for path in found if path.parent.name == mask.parent.name]
        found = near if len(near) == 1 else found
        if len(found) != 1:
            missing = "that are missing, though they have a mask"
            dropped.image("of a name that several have" if found else missing, mask)
            continue
        used.add(found[0])
        samples.append(Sample(found[0], images.name_of(found[0]), mask=mask, table=table))
    if suffix:  # of other layouts many images have no mask
        for path in images.paths:
            if path not in used:
                dropped.image("that have no mask", path)
    return samples


def _voc_classes(root: Path) -> tuple[list[str], dict, str]:
    """Names of classes, what each colour and value is, and where the names are from."""
    file = root / "labelmap.txt"
    if file.is_file():
        names: list[str] = []
        colours: dict = {}
        for line in read_lines(file):
            name, _, rest = line.partition(":")
            if not name or name.startswith("#"):
                continue
            try:
                red, green, blue = (int(value) for value in rest.partition(":")[0].split(","))
            except ValueError:
                raise UserError(
                    f"'{file}' has the line {line!r}: give name:red,green,blue::"
                ) from None
            colours[red, green, blue] = len(names)
            names.append(name)
        values = {number: number for number in range(len(names))}
        return check_names(names, file), colours | values, f"classes: those of '{file}'"
    file = root / "classes.txt"
    names = read_classes(file) if file.is_file() else list(_VOC)
    said = (
        f"those of '{file}'"
        if file.is_file()
        else "the 21 of Pascal VOC, since no labelmap.txt or classes.txt names others"
    )
    table: dict = {colour: number for number, colour in enumerate(voc_colours(len(names)))}
    table |= {_VOID_COLOUR: IGNORED} | {number: number for number in range(len(names))}
    return list(names), table, f"classes: {said}"


def _roboflow_classes(file: Path) -> dict[int, str]:
    """Names by value, in the order of the values."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
        found = {int(value): name for value, name, *_ in rows[1:]}
    except (ValueError, csv.Error):  # of numbers, of UTF-8, or of a table
        raise UserError(f"'{file}' does not list 'Pixel Value, Class' in each line") from None
    if not found or not all(0 <= value < IGNORED for value in found):
        raise UserError(f"'{file}' has no classes with values of 0 to {IGNORED - 1}")
    return dict(sorted(found.items()))
