"""Purity is what it says, and t-SNE is refused where it would mean nothing."""

from pathlib import Path

import numpy as np
import pytest

from milan_mm.errors import UserError
from milan_mm.look.tsne import TsneSettings, chance_purity, choose_images, purity, tsne_figure
from tests.look.conftest import WORDING, write_classes


def slow_purity(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    """One point after the other, by the definition."""
    shares = []
    for i, point in enumerate(points):
        others = [j for j in range(len(points)) if j != i]
        others.sort(key=lambda j: float(((points[j] - point) ** 2).sum()))
        shares.append(np.mean([labels[j] == labels[i] for j in others[:k]]))
    return float(np.mean(shares))


def test_purity_is_the_share_of_neighbours_of_the_own_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 30)
    points = rng.normal(size=(30, 4)) + labels[:, None]
    assert purity(points, labels, 5) == pytest.approx(slow_purity(points, labels, 5))


def test_separate_classes_are_pure_and_random_points_are_at_chance():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    assert purity(labels[:, None] * 10 + rng.normal(size=(200, 2)), labels, 10) == 1
    random = purity(rng.normal(size=(200, 2)), labels, 10)
    assert random == pytest.approx(chance_purity(labels), abs=0.05)
    pairs = [labels[i] == labels[j] for i in range(200) for j in range(200) if i != j]
    assert chance_purity(labels) == pytest.approx(np.mean(pairs))


def test_a_figure_tells_purity_perplexity_and_seed(shown, tmp_path: Path):
    data = write_classes(tmp_path / "data", 6)
    settings = TsneSettings(
        str(data), seed=3, perplexity=5, k=4, cache=tmp_path / "cache", workers=0
    )
    outcome = tsne_figure(shown, choose_images(settings), settings, WORDING)
    value = outcome.facts["purity"][0]["features"]
    assert f"4-NN purity {value:.1%}" in outcome.lines[0]
    for part in (f"{value:.1%}", "Perplexity 5", "seed 3", "18 images in 3 random classes"):
        assert part in outcome.facts["caption"]


def test_a_figure_says_when_classes_share_their_looks(shown, tmp_path: Path):
    names = {f"{i:02}": (i, i, i) for i in range(65)}
    data = write_classes(tmp_path / "data", 1, names)
    settings = TsneSettings(str(data), classes=65, perplexity=5, k=1, cache=tmp_path, workers=0)
    caption = tsne_figure(shown, choose_images(settings), settings, WORDING).facts["caption"]
    assert "Colour and marker tell 64 classes apart, others share them." in caption


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(perplexity=30), "--perplexity 30 needs more than 30 images, 3 classes .* give 6"),
        (dict(perplexity=2, k=6), "--k 6 needs more than 6 images"),
        (dict(classes=4), "--classes 4: .* has 3 classes, give 2 to 3"),
        (dict(classes=1), "--classes 1: purity compares classes, give 2 or more"),
    ],
)
def test_too_few_classes_or_images_are_refused(tmp_path: Path, settings, message):
    data = write_classes(tmp_path / "data", 2)
    with pytest.raises(UserError, match=message):
        choose_images(TsneSettings(str(data), cache=tmp_path, **settings))
