"""Write the shapes scenes in the layouts of ImageNet, COCO and ADE20K, with captions as text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from milan_mm.errors import ExistingFileError, UserError
from milan_mm.files import replacing_folder
from milan_mm.shapes.captions import SIZES
from milan_mm.shapes.scenes import DENSE_CLASSES, Scene, dense_labels, render_scene

_FORMAT = 3  # raise it when equal parameters no longer give equal files
_JPEG_QUALITY = 95
# Scene seeds of one data set seed: the splits never share a scene.
_SPLIT_STRIDE = 1_000_000
_SPLITS = ("pretrain", "train", "val")
CLASSES = ("shape", "colour")  # of the largest object


@dataclass(frozen=True)
class ShapesParameters:
    """What decides the content of a written data set; stored in its meta.json."""

    num_pretrain: int
    num_train: int
    num_val: int
    size: int
    seed: int
    format: int = _FORMAT
    classes: str = "shape"

    def __post_init__(self) -> None:
        for name in ("num_pretrain", "num_train", "num_val"):
            count = getattr(self, name)
            if not 1 <= count <= _SPLIT_STRIDE:
                raise UserError(f"{name} {count} is outside 1..{_SPLIT_STRIDE}; choose one inside")
        if self.classes not in CLASSES:
            raise UserError(f"classes '{self.classes}' is unknown: choose from {CLASSES}")
        if not 0 <= self.seed < 2**16:
            raise UserError(f"seed {self.seed} is outside 0..{2**16 - 1}; choose one inside")

    def stored(self) -> dict[str, Any]:
        """The content of meta.json; older data sets, which all have shape classes, say nothing."""
        return {k: v for k, v in asdict(self).items() if (k, v) != ("classes", "shape")}


def write_shapes(
    root: str | Path,
    num_pretrain: int,
    num_train: int,
    num_val: int,
    seed: int = 0,
    size: int = 96,
    progress: bool = True,
    classes: str = "shape",
) -> bool:
    """Write the data set, or reuse a finished folder with the same parameters.

    `root` holds imagenet/ (`num_pretrain` training scenes), coco/ and ade/ (`num_train` training
    scenes, shared), all with the same `num_val` validation scenes, and captions/ of the imagenet
    files. The folders in imagenet/ are the classes: the shape or the colour of the largest object.
    `root` appears only when complete.

    Returns: True if the files were written, False if the folder was reused.
    Raises:
        UserError: a count or the seed is out of range, or `classes` is unknown.
        ExistingFileError: `root` exists and is not such a data set, or has other parameters.
    """
    root = Path(root)
    parameters = ShapesParameters(num_pretrain, num_train, num_val, size, seed, classes=classes)
    if root.exists():
        _check_reusable(root, parameters)
        return False
    with replacing_folder(root) as partial:
        _write_scenes(partial, parameters, progress)
    return True


def _write_scenes(partial: Path, parameters: ShapesParameters, progress: bool) -> None:
    seed, classes = parameters.seed, parameters.classes
    numbers = parameters.num_pretrain, parameters.num_train, parameters.num_val
    counts = dict(zip(_SPLITS, numbers, strict=True))
    captions: dict[str, list[str]] = {"train": [], "val": []}
    coco = {"train": _CocoFile(), "val": _CocoFile()}
    with tqdm(total=sum(counts.values()), desc="shapes", disable=not progress) as bar:
        for number, split in enumerate(_SPLITS):
            first = (seed * len(_SPLITS) + number) * _SPLIT_STRIDE
            for index in range(counts[split]):
                scene = render_scene(first + index, parameters.size)
                jpeg = _jpeg_bytes(scene.image)
                part = "val" if split == "val" else "train"
                if split != "train":
                    name = f"imagenet/{part}/{getattr(scene.largest, classes)}/{index:06d}.JPEG"
                    _write(partial / name, jpeg)
                    captions[part].append(f"{name}\t{scene.caption}\n")
                if split != "pretrain":
                    _write(partial / f"coco/{part}2017/{index:012d}.jpg", jpeg)
                    coco[part].add(index, scene)
                    _write_ade(partial / "ade" / "ADEChallengeData2016", part, index, scene, jpeg)
                bar.update()
    for part in ("train", "val"):
        text = "".join(captions[part])
        _write(partial / f"captions/{part}.tsv", text.encode())
        content = json.dumps(coco[part].content())
        _write(partial / f"coco/annotations/instances_{part}2017.json", content.encode())
    _write(partial / "meta.json", json.dumps(parameters.stored()).encode())


class _CocoFile:
    """Collects the annotations of one instances_*.json."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, index: int, scene: Scene) -> None:
        height, width = scene.labels.shape
        name = f"{index:012d}.jpg"
        self.images.append({"id": index, "file_name": name, "height": height, "width": width})
        for obj in scene.objects:
            rle = coco_mask.encode(np.asfortranarray(obj.mask.astype(np.uint8)))
            annotation = {
                "id": len(self.annotations) + 1,
                "image_id": index,
                "category_id": 1 + SIZES.index(obj.size),
                "bbox": list(obj.bbox),
                "area": int(obj.mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
            self.annotations.append(annotation)

    def content(self) -> dict[str, Any]:
        categories = [{"id": i, "name": size} for i, size in enumerate(SIZES, start=1)]
        return {"images": self.images, "annotations": self.annotations, "categories": categories}


def _write_ade(ade: Path, part: str, index: int, scene: Scene, jpeg: bytes) -> None:
    folder = "training" if part == "train" else "validation"
    stem = f"ADE_{part}_{index:08d}"
    _write(ade / "images" / folder / f"{stem}.jpg", jpeg)
    buffer = BytesIO()
    Image.fromarray(dense_labels(scene)).save(buffer, "PNG")
    _write(ade / "annotations" / folder / f"{stem}.png", buffer.getvalue())
    if index == 0:
        names = "".join(f"{i}\t{name}\n" for i, name in enumerate(DENSE_CLASSES, start=1))
        _write(ade / "objectInfo.txt", names.encode())


def _check_reusable(root: Path, parameters: ShapesParameters) -> None:
    try:
        found = json.loads((root / "meta.json").read_text())
    except (OSError, ValueError):
        raise ExistingFileError(
            f"{root} exists and is not a shapes data set; choose another folder or remove it"
        ) from None
    if found != parameters.stored():
        raise ExistingFileError(
            f"{root} was made with {found}, wanted {parameters.stored()}; remove it to make it anew"
        )


def _jpeg_bytes(image: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
