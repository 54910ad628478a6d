"""Writing the layout that `--data` takes: COCO files, label pairs, or class folders."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from milan_mm.datasets.decoding import decode
from milan_mm.datasets.labels import IGNORED
from milan_mm.files import read_regular
from milan_mm.upkeep.convert.masks import read_mask, translate
from milan_mm.upkeep.convert.samples import Found, Sample, Thing
from milan_mm.upkeep.convert.source import progress

_PNG = ".png"
Place = Callable[[Path, Path], object]


def hard_link(source: Path, target: Path) -> None:
    """Give the file a second name, which takes no space; a copy where the file system differs."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def symbolic_link(source: Path, target: Path) -> None:
    """Point to the file where it is."""
    target.symlink_to(source.resolve())


copy = shutil.copyfile


def write_coco(found: Found, out: Path, place: Place) -> None:
    """OUT/annotations/SPLIT.json and OUT/SPLIT/*."""
    categories = [dict(id=i, name=name) for i, name in enumerate(found.classes, start=1)]
    for split, samples in found.splits.items():
        names = unique_names([sample.name for sample in samples])
        images: list[dict] = []
        annotations: list[dict] = []
        for number, (sample, name) in enumerate(_shown(samples, names, split), start=1):
            _put(sample.path, out / split / name, place)
            size = dict(width=sample.width, height=sample.height)
            images.append(dict(id=number, file_name=name, **size))
            for thing in sample.things:
                own = dict(id=len(annotations) + 1, image_id=number)
                annotations.append(own | _annotation(thing, sample))
        content = dict(images=images, annotations=annotations, categories=categories)
        path = out / "annotations" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def write_label_pairs(found: Found, out: Path, place: Place) -> list[str]:
    """OUT/images/SPLIT/*, OUT/annotations/SPLIT/*.png and OUT/classes.txt.

    Returns:
        Lines on what was changed.
    """
    # each folder needs one type of files
    suffixes = {sample.path.suffix.lower() for sample in found.samples}
    one_type = suffixes <= {".jpg", ".jpeg"} or len(suffixes) == 1
    suffix = (".jpg" if ".jpeg" in suffixes else min(suffixes)) if one_type else _PNG
    for split, samples in found.splits.items():
        names = unique_names([str(PurePosixPath(s.name).with_suffix("")) for s in samples])
        found.pixels[split] = np.zeros(IGNORED + 1, np.int64)
        for sample, stem in _shown(samples, names, split):
            target = out / "images" / split / f"{stem}{suffix}"
            if one_type or sample.path.suffix.lower() == suffix:
                _put(sample.path, target, place)
            else:
                _put(sample.path, target, _save_as_png)
            mask = out / "annotations" / split / f"{stem}{_PNG}"
            found.pixels[split] += _put_mask(sample, mask, place)
    text = "".join(f"{name}\n" for name in found.classes)
    (out / "classes.txt").write_text(text, encoding="utf-8")
    if one_type:
        return []
    return [f"images of several types ({' '.join(sorted(suffixes))}): all are saved as PNG"]


def write_class_folders(found: Found, out: Path, place: Place) -> None:
    """OUT/SPLIT/CLASS/*; a class without images in a split has an empty folder there."""
    for split, samples in found.splits.items():
        for name in found.classes:
            (out / split / name).mkdir(parents=True, exist_ok=True)
        for sample, name in _shown(samples, [s.name for s in samples], split):
            _put(sample.path, out / split / name, place)


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with a number where a name occurs again, also in another case."""
    seen: set[str] = set()
    unique = []
    for name in names:
        path, number, new = PurePosixPath(name), 1, name
        while new.lower() in seen:
            number += 1
            new = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        seen.add(new.lower())
        unique.append(new)
    return unique


def _shown(
    samples: Sequence[Sample], names: Sequence[str], split: str
) -> Iterable[tuple[Sample, str]]:
    return progress(list(zip(samples, names, strict=True)), f"writing {split}")


def _put(source: Path, target: Path, place: Place) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    place(source, target)


def _put_mask(sample: Sample, target: Path, place: Place) -> np.ndarray:
    """A link where values are numbers of classes already, else a new file.

    Returns:
        Pixels by the value that is written: (256,).
    """
    if sample.mask is None:
        return np.zeros(IGNORED + 1, np.int64)
    mask = read_mask(sample.mask)
    labels = mask if sample.table is None else translate(mask, sample.table)
    same = labels is mask or (mask.dtype == np.uint8 and np.array_equal(mask, labels))
    is_link = same and sample.mask.suffix.lower() == _PNG
    _put(sample.mask, target, place if is_link else lambda _, t: Image.fromarray(labels).save(t))
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.max(initial=0) > IGNORED:
        return np.zeros(IGNORED + 1, np.int64)  # the check at the end names the file
    return np.bincount(labels.astype(np.uint8).ravel(), minlength=IGNORED + 1)


def _save_as_png(source: Path, target: Path) -> None:
    """The pixels as training reads them."""
    Image.fromarray(decode(read_regular(source))[..., ::-1]).save(target)


def _annotation(thing: Thing, sample: Sample) -> dict:
    """As COCO has it; the area is that of the mask, or of the box."""
    area = thing.area
    if area is None and thing.mask:
        area = _mask_area(thing.mask, sample.height, sample.width)
    return dict(
        category_id=thing.label + 1,
        bbox=list(thing.box),
        area=area or thing.box[2] * thing.box[3],
        iscrowd=int(thing.crowd),
        segmentation=thing.mask or [],
    )


def _mask_area(mask: list | dict, height: int, width: int) -> float:
    """Pixels of polygons, of which each pixel counts once, or of run lengths of either kind."""
    if isinstance(mask, dict) and isinstance(mask["counts"], str):
        return float(coco_mask.area(mask))
    runs = coco_mask.frPyObjects(mask, height, width)
    return float(coco_mask.area(coco_mask.merge(runs) if isinstance(mask, list) else runs))
