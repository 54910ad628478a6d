"""ImageNet-1K for classification: one folder per class, equal classes in both splits."""

import re
from collections import Counter
from pathlib import Path

from timm.data import ImageNetInfo

from milan_mm.datasets.folders import is_image
from milan_mm.datasets.inspecting import Reading, read_image
from milan_mm.text import count
from milan_mm.upkeep.findings import Findings
from milan_mm.upkeep.parallel import map_in_processes
from milan_mm.upkeep.reading import list_files, rgb_pixels, spread
from milan_mm.visualization.contact_sheet import NUM_CELLS, Cell

NUM_IMAGES = dict(train=1_281_167, val=50_000)
NUM_CLASSES = 1000
VAL_PER_CLASS = 50
_SYNSET = re.compile(r"n\d{8}")
_VAL_NAME = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG")
# The development kit names the class of validation image 1, 2, 3, ...
SORT_VAL = """\
put ILSVRC2012_devkit_t12.tar.gz of image-net.org into '{root}' and run
python - <<'END'
from pathlib import Path
from torchvision.datasets.imagenet import load_meta_file, parse_devkit_archive
root = Path({root!r})
parse_devkit_archive(root)
classes = load_meta_file(root)[1]
for path in root.glob("val/ILSVRC2012_val_*.JPEG"):
    folder = path.parent / classes[int(path.stem[-8:]) - 1]
    folder.mkdir(exist_ok=True)
    path.rename(folder / path.name)
END"""
Image = tuple[str, str, str]  # split, class, file name


def check_imagenet(root: Path, findings: Findings, num_workers: int) -> list[Cell]:
    """Check ROOT/{train,val}/SYNSET/*.JPEG, and decode every image.

    mmpretrain numbers the classes of each split by its own sorted folders, so a class that is
    missing in one split shifts the labels of all that follow.

    Args:
        findings: Filled in place.
        num_workers: Processes that decode; 0 decodes in this one.

    Returns:
        Labelled images for the contact sheet.
    """
    info = ImageNetInfo()
    names = dict(zip(info.label_names(), info.label_descriptions(), strict=True))
    images: list[Image] = []
    classes: dict[str, list[str]] = {}
    for split in NUM_IMAGES:
        folder = root / split
        if not folder.is_dir():
            findings.add(
                "folders are missing",
                "unpack or link the split there, with one folder per class",
                [str(folder)],
            )
            continue
        found = _list_split(root, split, findings)
        images += found
        classes[split] = sorted({label for _, label, _ in found if label})
        findings.compare_count(f"images in {split}", len(found), NUM_IMAGES[split])
        if classes[split]:
            findings.compare_count(f"classes in {split}", len(classes[split]), NUM_CLASSES)
    _check_classes(classes, set(names), findings)
    _check_labels(images, findings)
    readable = _decode(root, images, findings, num_workers)
    labelled = [image for image in readable if image[1]]
    train, val = ([i for i in labelled if i[0] == split] for split in NUM_IMAGES)
    return [
        Cell(rgb_pixels(root / split / label / name), f"{split} {label} {names.get(label, '?')}")
        for split, label, name in spread(train, val, NUM_CELLS)
    ]


def _list_split(root: Path, split: str, findings: Findings) -> list[Image]:
    """All images of a split; those outside of any class folder have the class ''."""
    folder = root / split
    loose = list_files(folder)
    images = [(split, "", name) for name in loose if is_image(name)]
    if images:
        remedy = "move each into the folder of its class"
        if split == "val" and any(_VAL_NAME.fullmatch(name) for _, _, name in images):
            remedy = SORT_VAL.format(root=str(root))
        findings.add(
            f"images are in {split}/ itself, not in a folder of their class",
            remedy,
            [f"{split}/{name}" for _, _, name in images],
        )
    others = [f"{split}/{name}" for name in loose if not is_image(name)]
    empty = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = list_files(place)
        inside = [(split, place.name, name) for name in files if is_image(name)]
        images += inside
        others += [f"{split}/{place.name}/{name}" for name in files if not is_image(name)]
        if not inside:
            empty.append(f"{split}/{place.name}")
    findings.add("class folders hold no images", "unpack the class again, or remove it", empty)
    if others:
        are = "is" if len(others) == 1 else "are"
        findings.notes.append(
            f"{count(len(others), 'other file')} {are} ignored, the first is '{others[0]}'"
        )
    return images


def _check_classes(classes: dict[str, list[str]], known: set[str], findings: Findings) -> None:
    """Folders are synsets of ImageNet-1K, and both splits have the same."""
    findings.add(
        "class folders are not classes of ImageNet-1K",
        "name each by its synset, like n01440764; for your own classes use `cls` instead of "
        "`imagenet`",
        [f"{split}/{name}" for split in classes for name in classes[split] if name not in known],
    )
    if all(classes.get(split) for split in NUM_IMAGES):
        train, val = (set(classes[split]) for split in NUM_IMAGES)
        findings.add(
            "classes are in one split only, which shifts the labels after them",
            "add the class to the other split or remove it (pretraining does not mind)",
            [f"{'train' if name in train else 'val'}/{name}" for name in sorted(train ^ val)],
        )


def _check_labels(images: list[Image], findings: Findings) -> None:
    """Training files carry their synset in the name; validation has 50 images of each class."""
    wrong = []
    for split, label, name in images:
        stated = _SYNSET.match(name)
        if label and stated and stated[0] != label:
            wrong.append(f"{split}/{label}/{name}")
    findings.add(
        "images are in the folder of another class than their name says",
        "move each into the folder that it is named after",
        wrong,
    )
    if findings.allow_subset:
        return
    per_class = Counter(label for split, label, _ in images if split == "val" and label)
    findings.add(
        f"classes do not have {VAL_PER_CLASS} validation images",
        "sort val/ again",
        [f"val/{name}: {n}" for name, n in sorted(per_class.items()) if n != VAL_PER_CLASS],
    )


def _decode(root: Path, images: list[Image], findings: Findings, num_workers: int) -> list[Image]:
    """Read every image; returns those that can be read."""
    paths = ["/".join(part for part in image if part) for image in images]
    readings: list[Reading] = list(
        map_in_processes(
            read_image, [str(root / path) for path in paths], num_workers, "reading images"
        )
    )
    findings.add(
        "images cannot be read",
        "unpack or download them again",
        [f"{p}: {r.error}" for p, r in zip(paths, readings, strict=True) if r.error],
    )
    return [i for i, r in zip(images, readings, strict=True) if not r.error]
