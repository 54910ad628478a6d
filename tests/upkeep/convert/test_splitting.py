"""A validation split: seeded, of each class in proportion, and without twins of training."""

from collections import Counter
from pathlib import Path

import pytest

from milan_mm.errors import UserError
from milan_mm.upkeep.convert.samples import Sample
from milan_mm.upkeep.convert.splitting import split


def _samples(folder: Path, labels: list[int], contents: list[str] | None = None) -> list[Sample]:
    samples = []
    for number, label in enumerate(labels):
        path = folder / f"{number}.jpg"
        path.write_text(contents[number] if contents else f"image {number:04}")
        samples.append(Sample(path, path.name, label=label))
    return samples


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_each_class_has_its_share(tmp_path: Path, share: float):
    samples = _samples(tmp_path, [0] * 60 + [1] * 30 + [2] * 10)
    train, val, twins = split(samples, share, seed=0)
    assert Counter(s.label for s in val) == {0: 60 * share, 1: 30 * share, 2: 10 * share}
    assert len(train) + len(val) == 100 and twins == 0
    assert not {s.name for s in train} & {s.name for s in val}


def test_an_image_counts_for_its_rarest_class(tmp_path: Path):
    samples = _samples(tmp_path, [0] * 20)
    for sample in samples[:10]:  # all have class 0, half of them class 1 as well
        sample.label, sample.things = 1, []
    val = split(samples, 0.2, seed=3)[1]
    assert Counter(s.label for s in val) == {0: 2, 1: 2}


def test_the_seed_decides(tmp_path: Path):
    samples = _samples(tmp_path, [0] * 40)
    chosen = [[s.name for s in split(samples, 0.25, seed)[1]] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_twins_stay_on_one_side(tmp_path: Path):
    contents = [f"photo {n // 4}" for n in range(40)]  # ten photos, four times each
    samples = _samples(tmp_path, [0] * 40, contents)
    for seed in range(5):
        train, val, twins = split(samples, 0.3, seed)
        assert twins == 30 and len(val) == 12
        sides = [{contents[int(s.path.stem)] for s in side} for side in (train, val)]
        assert not sides[0] & sides[1]


def test_variants_that_roboflow_made_of_a_photo_stay_on_one_side(tmp_path: Path):
    samples = []
    for number in range(20):
        path = tmp_path / f"photo{number // 2}_jpg.rf.{number:032x}.jpg"
        path.write_text(f"{number:03}")
        samples.append(Sample(path, path.name))
    train, val, _ = split(samples, 0.3, seed=0)
    photos = [{s.name.partition(".rf.")[0] for s in side} for side in (train, val)]
    assert not photos[0] & photos[1] and len(val) == 6


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 5), (0.05, 0)])
def test_a_share_that_empties_a_side_is_refused(tmp_path: Path, share: float, count: int):
    message = f"--val-share {share:g} of 5 different images gives {count} for validation"
    with pytest.raises(UserError, match=message):
        split(_samples(tmp_path, [0] * 5), share, seed=0)
