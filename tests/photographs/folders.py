"""Small folders of photographs, all black."""

from pathlib import Path

import numpy as np
from PIL import Image

LINES = (
    "t0\tbucket, pail\tteacher",
    "t1\tnail\tteacher",
    "s0\tgoldfish\tstudent",
    "s1\tfly\tstudent",
)


def write(root: Path, lines: tuple[str, ...] = LINES, images: int = 2) -> Path:
    for line in LINES:
        folder, _, role = line.split("\t")
        for split in ("train", "val"):
            inner = root / role / split / folder
            inner.mkdir(parents=True)
            for i in range(images):
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(inner / f"{i}.jpg")
    (root / "classes.tsv").write_text("\n".join(["folder\tname\trole", *lines]) + "\n")
    return root
