"""What several tests of weight files share."""

from collections.abc import Iterator

import pytest

from milan_mm.models.vit_options import ARCHS
from tests.weights import zoo


@pytest.fixture
def published_size() -> Iterator[None]:
    """Samples of a ViT-Ti/16 for 224 pixels, the smallest size that was published."""
    tiny = zoo.D, zoo.LAYERS, zoo.HEADS, zoo.PATCH, zoo.SIDE
    zoo.set_size(**ARCHS["tiny"], patch=16, side=14)
    yield
    zoo.set_size(*tiny)
