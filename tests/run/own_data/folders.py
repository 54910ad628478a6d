"""Tiny folders of images, as users have them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("blue", "green", "red")
SIDE = 32


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Noise of `size` (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_labels(path: Path, labels: np.ndarray | list) -> Path:
    """A single-channel file of `labels` (H, W), or one with channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=np.uint8)).save(path)
    return path


def image_folder(root: Path, classes: tuple[str, ...] = COLOURS, per_class: int = 2) -> Path:
    """ROOT/{train,val}/CLASS/*.png."""
    for split in ("train", "val"):
        for c, name in enumerate(classes):
            for i in range(per_class):
                write_image(root / split / name / f"{i}.png", seed=10 * c + i)
    return root


def coco_content(
    names: list[str], categories: tuple[str, ...] = COLOURS, masks: bool = True
) -> dict:
    """One object of each category in every image."""
    images = [
        dict(id=i, file_name=name, height=SIDE, width=SIDE) for i, name in enumerate(names, 1)
    ]
    annotations = []
    for image in images:
        for c in range(len(categories)):
            box = [2 + 5 * c, 3, 12, 14]
            x, y, w, h = box
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image["id"],
                    category_id=10 * (c + 1),
                    bbox=box,
                    area=w * h,
                    iscrowd=0,
                    segmentation=[polygon] if masks else [],
                )
            )
    listed = [dict(id=10 * (c + 1), name=name) for c, name in enumerate(categories)]
    return dict(images=images, annotations=annotations, categories=listed)


def write_coco(annotations: Path, images: Path, num_images: int = 2, **content) -> Path:
    """An annotation file, and its images in a folder."""
    names = [f"{i}.png" for i in range(num_images)]
    for i, name in enumerate(names):
        write_image(images / name, seed=i)
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(coco_content(names, **content)))
    return annotations


def coco_folder(root: Path, **content) -> Path:
    """ROOT/{train,val}2017/*.png and ROOT/annotations/instances_{train,val}2017.json."""
    for split in ("train2017", "val2017"):
        write_coco(root / f"annotations/instances_{split}.json", root / split, **content)
    return root


def label_pairs(root: Path, classes: tuple[str, ...] = COLOURS, num_images: int = 2) -> Path:
    """ROOT/{images,annotations}/{train,val}/*.png and ROOT/classes.txt; one column is void (3)."""
    for split in ("train", "val"):
        for i in range(num_images):
            labels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % len(classes)
            labels[:, :1] = len(classes)
            write_image(root / f"images/{split}/{i}.png", seed=i)
            write_labels(root / f"annotations/{split}/{i}.png", labels)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return root


def depth_pairs(root: Path, num_images: int = 2) -> Path:
    """ROOT/{images,depths}/{train,val}/*.png; depths from 1 to 2 m, in thousandths of a metre."""
    for split in ("train", "val"):
        for i in range(num_images):
            depths = 1000 + np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 1000 // SIDE**2
            write_image(root / f"images/{split}/{i}.png", seed=i)
            (root / f"depths/{split}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(depths.astype(np.uint16)).save(root / f"depths/{split}/{i}.png")
    return root
