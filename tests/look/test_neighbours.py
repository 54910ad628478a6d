"""Neighbours are the most similar images, never the query itself."""

from pathlib import Path

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from milan_mm.errors import UserError
from milan_mm.look.images import read_photos
from milan_mm.look.neighbours import (
    NeighbourSettings,
    choose_gallery,
    most_similar,
    neighbours_figure,
)
from tests.look.conftest import WORDING, write_classes


def test_neighbours_are_those_of_scikit_learn():
    features = torch.nn.functional.normalize(torch.randn(40, 8), dim=1)
    query = torch.nn.functional.normalize(torch.randn(8), dim=0)
    judge = NearestNeighbors(n_neighbors=7, metric="cosine").fit(features.numpy())
    distances, ids = judge.kneighbors(query[None].numpy())
    left_out = int(ids[0, 2])
    found, similarity = most_similar(query, features, [left_out], 6)
    assert found == [i for i in ids[0] if i != left_out]
    expected = [1 - d for d, i in zip(distances[0], ids[0], strict=True) if i != left_out]
    assert similarity == pytest.approx(expected, abs=1e-5)


def figure_of(shown, data: Path, query: Path, k: int, cache: Path):
    settings = NeighbourSettings(str(data), k=k, cache=cache, workers=0)
    gallery, photos = choose_gallery(settings), read_photos([query])
    return neighbours_figure(shown, gallery, photos, settings, WORDING).facts


def test_a_query_with_a_class_has_right_and_wrong_neighbours(shown, tmp_path: Path):
    data = write_classes(tmp_path / "data", 3)
    facts = figure_of(shown, data, data / "red/0.png", 8, tmp_path / "cache")
    assert facts["marked"] == 8 and facts["right"] == 2  # all others, of which two are red
    assert "right are 2 of 8" in facts["caption"]
    feature = dict(cls="class token", mean="mean of the patches")[shown[0].encoder.pooling]
    assert f"features ({feature} after the final norm)." in facts["caption"]


def test_a_linked_query_is_still_not_its_own_neighbour(shown, tmp_path: Path):
    photos = write_classes(tmp_path / "photos", 2)
    for file in photos.rglob("*.png"):
        link = tmp_path / "sorted" / f"by_{file.parent.name}" / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    query = tmp_path / "sorted/by_red/0.png"
    facts = figure_of(shown, tmp_path / "sorted", query, 5, tmp_path / "cache")
    assert (facts["right"], facts["marked"]) == (1, 5)


def test_without_a_known_class_nothing_is_marked(shown, tmp_path: Path):
    data = write_classes(tmp_path / "data", 2)
    query = tmp_path / "query.png"
    query.write_bytes((data / "red/0.png").read_bytes())
    facts = figure_of(shown, data, query, 3, tmp_path / "cache")
    assert facts["marked"] == 0 and "right" not in facts["caption"]
    flat = figure_of(shown, data / "blue", data / "blue/0.png", 1, tmp_path / "cache")
    assert flat["marked"] == 0


def test_more_neighbours_than_images_are_refused(shown, tmp_path: Path):
    data = write_classes(tmp_path / "data", 1)
    with pytest.raises(UserError, match=r"--k 3 needs more than 3 images, .* has 3: give 1 to 2"):
        figure_of(shown, data, data / "red/0.png", 3, tmp_path / "cache")


def test_images_that_cannot_be_read_do_not_count_as_neighbours(shown, tmp_path: Path):
    data = write_classes(tmp_path / "data", 1)
    (data / "green/0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"--k 2 needs more than 2 images, .* has 2: give 1 to 1"):
        figure_of(shown, data, data / "red/0.png", 2, tmp_path / "cache")
