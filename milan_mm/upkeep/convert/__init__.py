"""From other programs' folders to the layouts that `--data` takes.

A reader for each kind hands on samples (samples.py); they are split where the source has no
validation (splitting.py), and written (writing.py). The readers are own code: each module says what
`labelformat`, the library for these formats, does otherwise. Tests use it as a judge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from milan_mm.datasets import foreign
from milan_mm.datasets.foreign import Kind, only_folder, recognise
from milan_mm.errors import ExistingFileError, MissingFileError, UserError
from milan_mm.files import replacing_folder
from milan_mm.text import count
from milan_mm.upkeep.convert.class_folders import read_class_folders
from milan_mm.upkeep.convert.coco import read_coco_export
from milan_mm.upkeep.convert.cvat import read_cvat
from milan_mm.upkeep.convert.masks import read_pairs, read_roboflow_masks, read_voc_masks
from milan_mm.upkeep.convert.samples import ALL, Found
from milan_mm.upkeep.convert.source import Source
from milan_mm.upkeep.convert.splitting import split
from milan_mm.upkeep.convert.voc import read_voc
from milan_mm.upkeep.convert.writing import (
    Place,
    hard_link,
    write_class_folders,
    write_coco,
    write_label_pairs,
)
from milan_mm.upkeep.convert.yolo import read_yolo

READERS: dict[Kind, Callable[[Source], Found]] = {
    foreign.YOLO: read_yolo,
    foreign.VOC: read_voc,
    foreign.VOC_MASKS: read_voc_masks,
    foreign.CVAT: read_cvat,
    foreign.COCO: read_coco_export,
    foreign.ROBOFLOW_MASKS: read_roboflow_masks,
    foreign.PAIRS: read_pairs,
    foreign.CLASSES: read_class_folders,
}
KINDS = {kind.name: kind for kind in READERS}
SHOWN = 20  # classes in the table of counts


@dataclass(frozen=True)
class Options:
    """How to convert.

    Attributes:
        val_share: Of the images that go to validation where the source has none. seed: Of that.
        max_dropped: Share of images, and of objects, that may be left out because of faults.
        place: How image files get to the new folder.
    """

    val_share: float = 0.2
    seed: int = 0
    max_dropped: float = 0.01
    place: Place = hard_link


def find_kind(given: Path, name: str | None = None) -> tuple[Kind, Path]:
    """What a folder or file is; also of a folder that only holds the right one.

    Args:
        name: Of the kind, where the user says it.

    Raises:
        MissingFileError, UserError: When it is not there, or has none of the known layouts.
    """
    if not given.exists():
        raise MissingFileError(f"'{given}' does not exist: give the folder of your data")
    if given.suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar"):
        raise UserError(f"'{given}' is an archive: unpack it, and give the folder")
    if name:
        place = given
        while recognise(place) is None and (inner := only_folder(place)):
            place = inner
        return KINDS[name], place
    if found := foreign.find_foreign(given):
        return found
    files = [given] if given.is_file() else sorted(given.glob("*.y*ml"))
    broken = [path for path in files if path.suffix != ".json" and not foreign.read_yaml(path)]
    raise UserError(
        f"'{given}' has none of the known layouts ({', '.join(KINDS)}): give the "
        "folder above images and labels, or name the layout with --from; a folder that --data "
        "takes already need not be converted"
        + (f"; '{broken[0]}' is not YAML that can be read" if broken else "")
    )


def convert(kind: Kind, source: Source, out: Path, options: Options) -> list[str]:
    """Read, split and write; OUT appears whole, or not at all.

    Returns:
        Lines about what was found and written.

    Raises:
        ExistingFileError: When OUT is there and not empty.
        UserError: When the source cannot be used, or more is faulty than may be left out.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExistingFileError(f"'{out}' exists already: remove it, or give a new folder")
    for root in source.image_roots:  # where another run would find the images of this one
        if out.resolve().is_relative_to(root.resolve()):
            raise UserError(f"'{out}' is inside of '{root}': give a folder outside")
    found = READERS[kind](source)
    if kind.task == "det":
        found.notes += _even_masks(found, options.max_dropped)
    things = [len(sample.things) for sample in found.samples]
    totals = dict(images=len(things), objects=sum(things))
    crowds = sum(thing.crowd for sample in found.samples for thing in sample.things)
    if not totals["images"]:
        raise UserError(
            f"no image of '{source.given}' can be used: "
            f"{found.dropped.images or 'there are none'}; if they are elsewhere, give their folder "
            "by --images"
        )
    notes = [*found.notes, *found.dropped.check(totals, options.max_dropped)]
    if crowds:
        notes.append(
            f"{count(crowds, 'object')} marked as a crowd or as difficult: neither learnt from nor "
            "evaluated"
        )
    if kind.task == "det" and totals["objects"] == crowds:
        raise UserError(
            f"no image of '{source.given}' has an object, other than {count(crowds, 'crowd')}: "
            "there is nothing to learn"
        )
    notes += _split(found, options, kind)
    out = out.resolve()  # a link to an empty folder stays
    with replacing_folder(out) as partial:
        if kind.task == "det":
            write_coco(found, partial, options.place)
        elif kind.task == "seg":
            notes += write_label_pairs(found, partial, options.place)
        else:
            write_class_folders(found, partial, options.place)
    return [*notes, *_counts(kind, found)]


def _even_masks(found: Found, limit: float) -> list[str]:
    """Masks of all objects or of none: a detector of masks needs each.

    Args:
        limit: Share of objects that are rather dropped than the masks of the others.
    """
    things = [t for s in found.samples for t in s.things if not t.crowd]
    masked = sum(bool(thing.mask) for thing in things)
    if not masked:
        return []
    if len(things) - masked <= limit * len(things):
        for sample in found.samples:
            for _ in [t for t in sample.things if not (t.mask or t.crowd)]:
                found.dropped.object("without a mask, which the others have", sample.path)
            sample.things = [t for t in sample.things if t.mask or t.crowd]
            for thing in sample.things:
                x, y, w, h = thing.box
                thing.mask = thing.mask or [[x, y, x + w, y, x + w, y + h, x, y + h]]
        return []
    for sample in found.samples:
        for thing in sample.things:
            thing.mask = None
    return [
        f"{masked:,} of {len(things):,} objects have a mask: all masks are left out, and boxes kept"
    ]


def _split(found: Found, options: Options, kind: Kind) -> list[str]:
    """Make a validation split where there is none, in place; what is test stays."""
    splits = found.splits
    rest, notes = splits.pop(ALL, []), []
    if rest and "val" in splits:
        splits["train"] = [*splits.get("train", []), *rest]
        notes.append(f"{count(len(rest), 'image')} of no split: taken for training")
    elif rest or ("train" in splits and "val" not in splits):
        splits[ALL] = [*splits.pop("train", []), *rest]
    if ALL not in splits:
        if "train" not in splits:
            raise UserError("the source has no training split: name the folder or file train")
        found.splits = {name: splits[name] for name in ("train", "val", "test") if name in splits}
        empty = [name for name, samples in found.splits.items() if not samples]
        if empty:
            raise UserError(f"the {empty[0]} split has no images that can be used")
        return notes
    train, val, twins = split(splits.pop(ALL), options.val_share, options.seed)
    found.splits = dict(train=train, val=val) | splits
    return [
        f"no validation split: {len(val):,} of {len(train) + len(val):,} images, chosen by "
        f"--val-share {options.val_share:g} --seed {options.seed}"
        + (", each class in proportion" if kind.task != "seg" else "")
        + (f"; {count(twins, 'image')} are twins of others, and on their side" if twins else "")
    ]


def _counts(kind: Kind, found: Found) -> list[str]:
    """Images and objects of each split, and a table of the classes."""
    lines, columns = [], []
    for name, samples in found.splits.items():
        line = f"{name}: {count(len(samples), 'image')}"
        if kind.task == "det":
            number = sum(len(sample.things) for sample in samples)
            empty = sum(not sample.things for sample in samples)
            line += f", {count(number, 'object')}"
            line += f", {count(empty, 'image')} without objects" if empty else ""
        lines.append(line)
        if kind.task == "seg":
            pixels = found.pixels[name]
            total = max(int(pixels.sum()), 1)
            columns.append([f"{pixels[i] / total:.1%}" for i in range(len(found.classes))])
        else:
            counts = found.count_classes(name)
            columns.append([f"{counts[i]:,}" for i in range(len(found.classes))])
    width = max(len(name) for name in ("class", *found.classes[:SHOWN]))
    what = dict(det="objects", seg="pixels", cls="images")[kind.task]
    lines.append(f"{what} of each class:")
    for name, *row in zip(
        ["class", *found.classes[:SHOWN]],
        *([title, *column] for title, column in zip(found.splits, columns, strict=True)),
        strict=False,
    ):
        lines.append(f"  {name:{width}}" + "".join(f"{cell:>10}" for cell in row))
    if (more := len(found.classes) - SHOWN) > 0:
        lines.append(f"  and {more} more")
    return lines
