"""Encoders and pictures that are small enough for figures in a test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.look.outcome import Wording
from milan_mm.look.systems import Shown, read_systems
from tests.helpers import save_state, tiny_vit

WORDING = Wording("python tools/look.py ...", caption=True, width=6.9)
COLOURS = dict(blue=(40, 60, 220), green=(30, 180, 60), red=(220, 40, 50))


def write_classes(root: Path, per_class: int, classes: dict = COLOURS) -> Path:
    """ROOT/CLASS/N.png: noisy images of a colour per class."""
    rng = np.random.default_rng(0)
    for name, colour in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(rng.normal(colour, 40, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def shown(tmp_path: Path) -> list[Shown]:
    """A tiny encoder with a class token, for images of 32 pixels."""
    return read_systems([str(save_state(tiny_vit().state_dict(), tmp_path))], num_heads=4)
