"""Published data sets whose labels are not in the download: mmseg has a script for each.

Whoever finds such labels missing says how to make them.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Script(NamedTuple):
    """One of mmseg's tools/dataset_converters.

    Attributes:
        name: Of its file.
        arguments: After the folder of the data.
        needs: A package that it imports and nobody installs with mmseg, or ''.
    """

    name: str
    arguments: str = ""
    needs: str = ""


SCRIPTS = dict(
    cityscapes=Script("cityscapes.py", " --nproc 8", "cityscapesscripts"),
    coco_stuff=Script("coco_stuff164k.py", " --nproc 8"),
    pascal_context=Script(
        "pascal_context.py", " trainval_merged.json", "detail (github.com/zhanghang1989/detail-api)"
    ),
    nyu=Script("nyu.py", " -o data/nyu"),
)
_FOLDERS = dict(SegmentationClassContext="pascal_context", SegmentationContext="pascal_context")
_ENDINGS = {
    "_gtFine_labelTrainIds.png": "cityscapes",  # before the next, which it ends with
    "_labelTrainIds.png": "coco_stuff",
}


def command(data: str, root: str | Path) -> str:
    """The command that makes labels.

    Args:
        data: A key of `SCRIPTS`.
        root: What the script takes first: the folder of the data, or the archive.
    """
    script = SCRIPTS[data]
    place = find_spec("mmseg")
    folder = Path(place.origin).parent if place and place.origin else Path("mmseg")
    path = folder / ".mim/tools/dataset_converters" / script.name
    needs = f" (it needs the package {script.needs})" if script.needs else ""
    return f"python {path} {root}{script.arguments}{needs}"


def conversion_hint(missing: str | Path) -> str:
    """How to make a file or folder of labels that is missing; '' where it is nobody's own layout.

    Args:
        missing: Its path, in the layout of a published data set.
    """
    path = Path(missing)
    for part, data in _FOLDERS.items():
        if part in path.parts:
            devkit = Path(*path.parts[: path.parts.index(part)]).parent
            devkit = devkit.parent if devkit.name == "VOC2010" else devkit
            return _made_by(data, devkit)
    for ending, data in _ENDINGS.items():
        if path.name.endswith(ending):
            names = [parent.name for parent in path.parents]
            top = "gtFine" if data == "cityscapes" else "annotations"
            root = path.parents[names.index(top)].parent if top in names else path.parent
            return _made_by(data, root)
    return ""


def _made_by(data: str, root: Path) -> str:
    return f"the download does not have it, this makes it: {command(data, root)}"
