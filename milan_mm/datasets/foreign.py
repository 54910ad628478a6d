"""Folders of images as other programs write them: which kind is it?

A cheap look at names and the first bytes of files, so that `--data` can say what a folder is when
it does not fit; `tools/convert_data.py` reads them.
"""

import mmap
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from milan_mm.datasets.folders import SPLITS, is_image, subfolders
from milan_mm.datasets.pair_folder import IMAGES, LABELS

MAX_YAML_BYTES = 5_000_000  # 100,000 names of classes
_OF_SPLITS = {name for names in SPLITS.values() for name in names} | {"test", "testing"}
_DEPTH = 3  # folders that hold nothing but one folder
_HEAD = 65_536  # bytes of an XML file that are looked into
_SPLIT = re.compile(r"(?:^|[^a-z])(training|train|validation|valid|val|testing|test)(?=[^a-z]|$)")
_STANDARD = dict(training="train", validation="val", valid="val", testing="test")


class Kind(NamedTuple):
    """A kind of folder.

    Attributes:
        name: Of `tools/convert_data.py --from`. title: For messages.
        task: 'det', 'seg' or 'cls', for which its conversion can be used.
    """

    name: str
    title: str
    task: str


ROBOFLOW_MASKS = Kind("roboflow-masks", "Roboflow's masks (_classes.csv)", "seg")
CVAT = Kind("cvat", "CVAT's 'CVAT for images' XML", "det")
YOLO = Kind("yolo", "an Ultralytics YOLO data set", "det")
VOC = Kind("voc", "a Pascal VOC data set of boxes", "det")
VOC_MASKS = Kind("voc-masks", "a Pascal VOC data set of masks (SegmentationClass)", "seg")
COCO = Kind("coco", "COCO annotations of another program", "det")
PAIRS = Kind("masks", "images and masks without splits", "seg")
CLASSES = Kind("classes", "class folders without splits", "cls")


def recognise(root: Path, task: str | None = None) -> Kind | None:
    """The kind of a folder, or of the one file that describes it; None for any other.

    Args:
        task: Of several kinds, one of this task comes first.
    """
    kinds = sorted(_KINDS, key=lambda kind: kind.task != task)  # else as listed
    return next((kind for kind in kinds if _KINDS[kind](root)), None)


def find_foreign(root: Path, task: str | None = None) -> tuple[Kind, Path] | None:
    """The kind and place of a folder, or of the only one inside it, as in VOCdevkit/VOC2012."""
    for _ in range(_DEPTH):
        if kind := recognise(root, task):
            return kind, root
        inner = only_folder(root)
        if inner is None or inner.name in _OF_SPLITS:
            return None
        root = inner
    return None


def only_folder(place: Path) -> Path | None:
    """The single folder in a folder, without hidden ones."""
    hidden = (".", "__MACOSX")
    found = subfolders(place) if place.is_dir() else []
    inner = [name for name in found if not name.startswith(hidden)]
    return place / inner[0] if len(inner) == 1 else None


def convert_hint(root: Path, task: str) -> str | None:
    """One line on what a folder is and how to convert it; None where that is no remedy.

    COCO files of splits are read as they are, so what is wrong there is something else.

    Args:
        task: For which the folder was meant.
    """
    found = find_foreign(root, task)
    if found is None:
        return None
    kind, place = found
    if kind.task == "det" and any(_is_of_split(path, place) for path in coco_files(place)):
        return None
    out = f"{root.name or 'data'}-{kind.task}"
    command = ["python", "tools/convert_data.py", str(root), out]
    command += [] if recognise(place) is kind else ["--from", kind.name]
    return (
        f"'{root}' looks like {kind.title}: convert it with {shlex.join(command)}, then give "
        f"--data {shlex.quote(out)} to a recipe of {kind.task}/"
    )


def _is_of_split(path: Path, root: Path) -> bool:
    """Whether `--data` finds this file as that of a split; it wants small letters."""
    return any(split_of(part) and part == part.lower() for part in path.relative_to(root).parts)


def split_of(name: str) -> str | None:
    """'train', 'val' or 'test' where a name says it: 'instances_Train.json', 'valid', 'val2017'."""
    found = _SPLIT.search(name.lower())
    return _STANDARD.get(found[1], found[1]) if found else None


def split_of_path(path: str) -> str | None:
    """The split that the folders of a file say, the outermost first."""
    return next(filter(None, map(split_of, path.split("/")[:-1])), None)


def yaml_of(root: Path) -> Path | None:
    """The file of a YOLO data set that names its classes."""
    files = [root] if root.is_file() else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    found = [path for path in files if "names" in read_yaml(path)]
    preferred = [path for path in found if path.stem in ("data", "dataset")]
    return next(iter([*preferred, *found]), None)


def read_yaml(path: Path) -> dict:
    """A mapping, empty where the file holds something else."""
    try:
        if path.suffix not in (".yaml", ".yml") or path.stat().st_size > MAX_YAML_BYTES:
            return {}
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def coco_files(root: Path) -> list[Path]:
    """JSON files with COCO's three lists."""
    if root.is_file():
        return [root] if root.suffix == ".json" and _is_coco(root) else []
    found = [*root.glob("*.json"), *root.glob("*/*.json")]
    return sorted(path for path in found if not path.name.startswith(".") and _is_coco(path))


def cvat_file(root: Path) -> Path | None:
    """The XML file of CVAT that has all annotations."""
    files = [root] if root.is_file() else sorted(root.glob("*.xml"))
    return next((path for path in files if _starts_with_tag(path, "annotations")), None)


def voc_files(root: Path) -> list[Path]:
    """XML files of Pascal VOC, one per image: in Annotations/, or beside the images."""
    if not root.is_dir():
        return []
    if (folder := root / "Annotations").is_dir():
        return sorted(folder.rglob("*.xml"))
    found = [path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}*.xml")]
    return sorted(path for path in found if path.parent.name != "Annotations")  # of another root


def _is_yolo(root: Path) -> bool:
    if yaml_of(root):
        return True
    if not root.is_dir():
        return False
    if (root / "obj.names").is_file():  # darknet's: labels beside the images
        return True
    names = [root / name for name in ("classes.txt", "labels/classes.txt")]
    labels = next(root.glob("labels/**/*.txt"), None) or next(root.glob("*/labels/*.txt"), None)
    return labels is not None and any(path.is_file() for path in names)


def _is_voc(root: Path) -> bool:
    files = voc_files(root)
    return bool(files) and _starts_with_tag(files[0], "annotation")


def _is_voc_masks(root: Path) -> bool:
    return (root / "SegmentationClass").is_dir()


def _is_roboflow_masks(root: Path) -> bool:
    files = [*root.glob("_classes.csv"), *root.glob("*/_classes.csv")] if root.is_dir() else []
    # a table of labels of whole images has the same name
    return any(path.read_bytes()[:32].lower().find(b"pixel value") >= 0 for path in files)


def _is_pairs(root: Path) -> bool:
    if not (root.is_dir() and (root / "classes.txt").is_file()):
        return False
    folders = [pair_folder(root, names) for names in (IMAGES, LABELS)]
    return all(path and _has_images(path) for path in folders)


def pair_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the folders that holds images, else the first that is there."""
    there = [root / name for name in names if (root / name).is_dir()]
    return next(filter(_has_images, there), there[0] if there else None)


def _is_classes(root: Path) -> bool:
    folders = (
        [name for name in subfolders(root) if not name.startswith(".")] if root.is_dir() else []
    )
    if len(folders) < 2 or any(split_of(name) for name in folders):
        return False
    if {*folders} & {*IMAGES, *LABELS}:
        return False
    return all(_has_images(root / name) for name in folders)


def _has_images(folder: Path) -> bool:
    return any(is_image(path.name) for path in folder.iterdir())


def _starts_with_tag(path: Path, tag: str) -> bool:
    """Whether this is the outermost element of an XML file."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "ignore")
    first = re.search(r"<([A-Za-z][\w.-]*)", head)
    return first is not None and first[1] == tag


def _is_coco(path: Path) -> bool:
    """Whether a file of any size names the lists of COCO's format."""
    if not path.is_file() or not path.stat().st_size:
        return False
    keys = ('"images"', '"annotations"', '"categories"')
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(
            all(content.find(key.encode(encoding)) >= 0 for key in keys)
            for encoding in ("utf-8", "utf-16-le", "utf-16-be")
        )


_KINDS: dict[Kind, Callable[[Path], object]] = {
    ROBOFLOW_MASKS: _is_roboflow_masks,
    CVAT: cvat_file,
    YOLO: _is_yolo,
    VOC: _is_voc,
    VOC_MASKS: _is_voc_masks,
    COCO: coco_files,
    PAIRS: _is_pairs,
    CLASSES: _is_classes,
}
