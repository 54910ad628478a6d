"""Pascal VOC: an XML file per image with boxes, and lists of the images of each split.

VOC counts pixels from 1 and names the first and the last one of a box, so a box over a whole image
of width W has xmin 1 and xmax W: x is xmin - 1, and the width xmax - xmin + 1. Many programs write
the same files with corners that count from 0. A coordinate below 1 shows that, since VOC's own has
none.

Own code, since `labelformat` 0.1.17 takes the numbers as corners from 0, a pixel off for VOC
itself, wants the names of classes, and reads no lists. Judges: detectron2's and torchvision's
readers.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from milan_mm.datasets.foreign import split_of, split_of_path, voc_files
from milan_mm.datasets.pair_folder import read_lines
from milan_mm.errors import MissingFileError, UserError
from milan_mm.text import shorten_list
from milan_mm.upkeep.convert.boxes import thing_of
from milan_mm.upkeep.convert.images import Images, size_as_stated
from milan_mm.upkeep.convert.safe_xml import XmlError, number_of, read_xml, text_of
from milan_mm.upkeep.convert.samples import ALL, Dropped, Found, Sample, check_names
from milan_mm.upkeep.convert.source import Source, progress

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(source: Source) -> Found:
    """Read the XML files, and split them as ImageSets/Main or their folders say.

    Raises:
        MissingFileError, UserError: When there is no annotation, or names of classes do not fit.
    """
    root, dropped = source.root, Dropped()
    files = {_key(path, root): path for path in voc_files(root)}
    if not files:
        raise MissingFileError(f"'{root}' has no XML files in Annotations/ or beside its images")
    parsed: dict[str, ET.Element] = {}
    for stem, path in files.items():
        try:
            parsed[stem] = read_xml(path)
        except XmlError as error:
            dropped.image("whose annotation cannot be read", error)
    objects = [o for xml in parsed.values() for o in xml.findall("object")]
    classes = _classes(root, {text_of(o, "name") for o in objects})
    origin = _origin(objects) if source.voc_origin is None else source.voc_origin
    convention = {
        1: "counted from 1, the last pixel is inside, as in VOC",
        0: "corners that count from 0, which VOC's own files do not have",
    }[origin]
    notes = [f"boxes: {convention} (--voc-origin {origin})"]
    images = Images(source.image_roots)
    lists = split_lists(root, "Main") or _by_folder(files)
    splits: dict[str, list[Sample]] = {}
    for split, stems in lists.items():
        splits[split] = []
        if split == "test" and not any(stem in files for stem in stems):
            notes.append(f"none of the {len(stems):,} images of test has an annotation: left out")
            del splits[split]
            continue
        for stem in progress(stems, f"reading {split}"):
            if stem not in parsed:
                if stem not in files:
                    dropped.image("that a list names, and that have no annotation", stem)
                continue
            sample = _read(files[stem], parsed[stem], images, classes, origin, dropped)
            splits[split] += [sample] if sample else []
    notes += images.left_out(splits, "without an annotation, or in no list")
    return Found(classes, splits, dropped, notes)


def split_lists(root: Path, kind: str) -> dict[str, list[str]]:
    """Names of images by split, of ImageSets/KIND; empty where there are no such lists.

    Lists of other names, as trainval, count where there is no train or no val.
    """
    found: dict[str, dict[str, None]] = {}  # a set in order
    for path in sorted((root / "ImageSets" / kind).glob("*.txt")):
        if "_" not in path.stem:  # the lists of a class have one, and a second word
            names = [line.split()[0] for line in read_lines(path) if line]
            found.setdefault(split_of(path.stem) or ALL, {}).update(dict.fromkeys(names))
    others = found.pop(ALL, {})
    named = {name for names in found.values() for name in names}
    if not {"train", "val"} <= found.keys():
        found[ALL] = {name: None for name in others if name not in named}
    return {split: list(names) for split, names in found.items() if names}


def _key(path: Path, root: Path) -> str:
    """What a list calls an XML file: its path below Annotations/, or below the root."""
    folder = root / "Annotations"
    own = path.relative_to(folder if path.is_relative_to(folder) else root)
    return own.with_suffix("").as_posix()


def _by_folder(files: dict[str, Path]) -> dict[str, list[str]]:
    """By the folders in which the files are: train/ and valid/, or one for all."""
    found: dict[str, list[str]] = {}
    for stem in files:
        found.setdefault(split_of_path(stem) or ALL, []).append(stem)
    return found


def _classes(root: Path, found: set[str]) -> list[str]:
    """Names from classes.txt, or those that occur, in alphabetical order as those of VOC."""
    path = root / "classes.txt"
    if path.is_file():
        return check_names(read_lines(path), path)
    if not found:
        raise UserError(f"no XML file of '{root}' has an object: there is nothing to learn from")
    if "" in found:
        raise UserError(f"objects of '{root}' have no name: name them")
    return check_names(sorted(found), root)


def _origin(objects: list[ET.Element]) -> int:
    """The number of the first pixel, by the smallest coordinate of all."""
    corners = [box for o in objects if (box := o.find("bndbox")) is not None]
    return int(all(not number_of(box, n) < 1 for box in corners for n in ("xmin", "ymin")))


def _read(
    file: Path,
    xml: ET.Element,
    images: Images,
    classes: list[str],
    origin: int,
    dropped: Dropped,
) -> Sample | None:
    folders = [file.parent, file.parent.parent / "JPEGImages", file.parent.parent / "images"]
    found = images.with_stem(file.stem, folders)
    stated_name = text_of(xml, "filename")
    if len(found) != 1:
        named = images.find(stated_name, folders) if stated_name else None
        found = [named] if named else found
    if not found:
        dropped.image("that are missing, though they have an annotation", file)
        return None
    if len(found) > 1:
        dropped.image(f"of a name that several have, as {shorten_list(found, 2)}", file)
        return None
    stated = number_of(xml, "size/width"), number_of(xml, "size/height")
    if (size := size_as_stated(found[0], stated, dropped)) is None:
        return None
    sample = Sample(found[0], images.name_of(found[0], folders), *size)
    for number, element in enumerate(xml.findall("object"), start=1):
        where = f"object {number} of '{file}'"
        name, box = text_of(element, "name"), element.find("bndbox")
        if name not in classes:
            dropped.object("of a class that is not listed", f"{where}, '{name}'")
        elif box is None:
            dropped.object("without a box", where)
        else:
            x1, y1, x2, y2 = (number_of(box, corner) for corner in _CORNERS)
            corners = (x1 - origin, y1 - origin, x2, y2)
            crowd = text_of(element, "difficult") == "1"
            thing = thing_of(classes.index(name), corners, size, dropped, where, crowd=crowd)
            sample.things += [thing] if thing else []
    return sample
