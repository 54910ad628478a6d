"""Small data sets in the layouts of ImageNet, COCO and ADE20K, made of generated scenes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

SYNSETS = ("n01440764", "n01443537", "n01484850")


def imagenet_of(scenes: Path, root: Path) -> Path:
    """ROOT/imagenet: the scenes in turn under three synsets, named as in ImageNet."""
    for split in ("train", "val"):
        for i, path in enumerate(sorted((scenes / "imagenet" / split).rglob("*.JPEG"))):
            label = SYNSETS[i % len(SYNSETS)]
            stem = f"{label}_{i}" if split == "train" else f"ILSVRC2012_val_{i + 1:08d}"
            place = root / "imagenet" / split / label / f"{stem}.JPEG"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return root / "imagenet"


def coco_of(scenes: Path, root: Path) -> Path:
    """ROOT/coco, with COCO's 80 categories, of which the first two occur."""
    from mmdet.datasets import CocoDataset

    shutil.copytree(scenes / "coco", root / "coco")
    names = CocoDataset.METAINFO["classes"]
    categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
    for split in ("train", "val"):
        edit_coco(root / "coco", split, lambda content: content.update(categories=categories))
    # the splits number their scenes from 0, COCO's share no name
    for path in sorted((root / "coco/val2017").iterdir()):
        path.rename(path.with_name("9" + path.name[1:]))
    edit_coco(root / "coco", "val", _rename)
    return root / "coco"


def ade20k_of(scenes: Path, root: Path) -> Path:
    """ROOT/ade/ADEChallengeData2016, with the labels 0 to 5."""
    return Path(shutil.copytree(scenes / "ade", root / "ade")) / "ADEChallengeData2016"


def edit_coco(root: Path, split: str, change: Callable[[dict], object]) -> None:
    """Let `change` alter the content of an annotation file in place."""
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _rename(content: dict) -> None:
    for image in content["images"]:
        image["file_name"] = "9" + image["file_name"][1:]
