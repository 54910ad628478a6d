"""Small data sets in the layouts of ImageNet, COCO and ADE20K."""

from pathlib import Path

import pytest

from milan_mm.shapes.files import write_shapes
from milan_mm.upkeep.findings import Findings
from tests.small_data import ade20k_of, coco_of, imagenet_of


def only(findings: Findings, kind: str) -> list[str]:
    """The names of the one kind of fault that there is."""
    assert list(findings.faults) == [kind]
    return findings.faults[kind].names


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 scenes for ImageNet, 5 training and 3 validation scenes for COCO and ADE20K."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, 12, 5, 3, size=64, progress=False)
    return root


@pytest.fixture
def imagenet(scenes: Path, tmp_path: Path) -> Path:
    """Three classes with four training images and one validation image each."""
    return imagenet_of(scenes, tmp_path)


@pytest.fixture
def coco(scenes: Path, tmp_path: Path) -> Path:
    """Five training and three validation images, with COCO's 80 categories."""
    return coco_of(scenes, tmp_path)


@pytest.fixture
def ade20k(scenes: Path, tmp_path: Path) -> Path:
    """Five training and three validation pairs with the labels 0 to 5."""
    return ade20k_of(scenes, tmp_path)
