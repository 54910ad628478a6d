"""Tiny folders as other programs write them, all of one scene: two objects on each image."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from milan_mm.upkeep.convert import Options, convert, find_kind
from milan_mm.upkeep.convert.source import Source
from tests.run.own_data.folders import write_image, write_labels

CLASSES = ("cat", "dog")
WIDTH, HEIGHT = 64, 48
BOXES = ((8.0, 6.0, 24.0, 18.0), (32.0, 12.0, 20.0, 30.0))  # x, y, width, height: a cat, a dog


def photo(path: Path, seed: int = 0, orientation: int = 1) -> Path:
    """Noise of WIDTH x HEIGHT stored pixels; every seed another."""
    write_image(path, seed, (HEIGHT, WIDTH))
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path, exif=exif)
    return path


def yolo_line(label: int, box: tuple[float, float, float, float]) -> str:
    """A box as Ultralytics documents it: class, centre and size as shares."""
    x, y, w, h = box
    return f"{label} {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n"


def yolo(root: Path, names: object = CLASSES, number: int = 3, style: str = "images/{}") -> Path:
    """data.yaml, images and labels; `style` is 'images/{}' or Roboflow's '{}/images'."""
    for i, split in enumerate(("train", "val")):
        for n in range(number):
            path = photo(root / style.format(split) / f"{n}.jpg", 10 * i + n)
            text = "".join(yolo_line(*pair) for pair in enumerate(BOXES))
            label = root / style.format(split).replace("images", "labels") / f"{path.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    listed = dict(enumerate(names)) if names == CLASSES else names
    content = dict(train=style.format("train"), val=style.format("val"), names=listed)
    (root / "data.yaml").write_text(json.dumps(content))  # JSON is YAML
    return root


def voc(root: Path, stems: dict[str, list[str]], origin: int = 1, difficult: int = 0) -> Path:
    """JPEGImages, Annotations and ImageSets/Main, of stems by list."""
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, listed in stems.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("".join(f"{s}\n" for s in listed))
    for seed, stem in enumerate(dict.fromkeys(s for listed in stems.values() for s in listed)):
        photo(root / f"JPEGImages/{stem}.jpg", seed)
        objects = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
            f"<xmin>{x + origin}</xmin><ymin>{y + origin}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for name, (x, y, w, h) in zip(CLASSES, BOXES, strict=True)
        )
        (root / f"Annotations/{stem}.xml").write_text(
            f"<annotation><filename>{stem}.jpg</filename><size><width>{WIDTH}</width>"
            f"<height>{HEIGHT}</height></size>{objects}</annotation>"
        )
    return root


def cvat(root: Path, shapes: str, number: int = 2) -> Path:
    """annotations.xml and images/, with the same shapes on every image."""
    images = ""
    for n in range(number):
        photo(root / f"images/{n}.png", n)
        images += f'<image id="{n}" name="{n}.png" width="{WIDTH}" height="{HEIGHT}">{shapes}'
        images += "</image>"
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        f"<labels>{labels}</labels></task></meta>{images}</annotations>"
    )
    return root


def coco(names: list[str], first_id: int = 1) -> dict:
    """One file's content, with both objects on each image."""
    images = [dict(id=i, file_name=n, width=WIDTH, height=HEIGHT) for i, n in enumerate(names)]
    annotations = [
        dict(image_id=image["id"], category_id=first_id + c, bbox=list(box))
        for image in images
        for c, box in enumerate(BOXES)
    ]
    categories = [dict(id=first_id + c, name=name) for c, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)


def roboflow_masks(root: Path, rows: str = "Pixel Value, Class\n0, background\n1, cat\n") -> Path:
    """train/ and valid/ with photos, masks beside them, and _classes.csv."""
    for i, split in enumerate(("train", "valid")):
        for n in range(2):
            photo(root / f"{split}/{n}.jpg", 10 * i + n)
            mask = np.zeros((HEIGHT, WIDTH))
            mask[:, : WIDTH // 2] = int(rows.rstrip().splitlines()[-1].split(",")[0])
            write_labels(root / f"{split}/{n}_mask.png", mask)
        (root / f"{split}/_classes.csv").write_text(rows)
    return root


def converted(root: Path, out: Path, kind: str | None = None, **options) -> list[str]:
    """Convert as the tool does; returns its lines."""
    of_source = {k: options.pop(k) for k in ("images", "voc_origin") if k in options}
    found, place = find_kind(root, kind)
    return convert(found, Source.of(place, **of_source), out, Options(**options))


def objects(out: Path, split: str = "train") -> dict[str, list[tuple]]:
    """(class, box) of each object by image; numbers rounded to a thousandth of a pixel."""
    content = json.loads((out / f"annotations/{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    found: dict[str, list[tuple]] = {name: [] for name in files.values()}
    for annotation in content["annotations"]:
        box = tuple(round(value, 3) for value in annotation["bbox"])
        found[files[annotation["image_id"]]].append((names[annotation["category_id"]], box))
    assert all((out / split / name).is_file() for name in found)
    return found


def annotations(out: Path, split: str = "train") -> list[dict]:
    """Those of a written file."""
    return json.loads((out / f"annotations/{split}.json").read_text())["annotations"]


SCENE = list(zip(CLASSES, BOXES, strict=True))
