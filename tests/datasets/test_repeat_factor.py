"""Repeats of images with rare classes, against the formula of LVIS's authors."""

import math
from collections import Counter
from itertools import islice

import pytest

from milan_mm.datasets import repeat_factor
from milan_mm.datasets.repeat_factor import RepeatFactorSampler, repeat_factors

THRESHOLD = 0.2


class Images(list):
    """The classes of each object of each image, as mmdet's data sets give them."""

    def get_cat_ids(self, index: int) -> list[int]:
        return self[index]


IMAGES = Images([[0], [0, 0], [0, 1, 1], [0], [], [0, 2], [0], [0], [0], [0, 1], *[[0]] * 30])


def slow_factors() -> list[float]:
    """max over the classes of an image of max(1, sqrt(threshold / share of images))."""
    shares = Counter(label for labels in IMAGES for label in set(labels))
    return [
        max([1.0, *(math.sqrt(THRESHOLD * len(IMAGES) / shares[label]) for label in set(labels))])
        for labels in IMAGES
    ]


def test_factors_are_those_of_the_formula():
    assert repeat_factors(IMAGES, THRESHOLD).tolist() == pytest.approx(slow_factors())


def test_passes_show_each_image_as_often_as_its_factor_asks_on_average():
    sampler = RepeatFactorSampler(IMAGES, THRESHOLD, seed=3)
    factors = slow_factors()
    passes = 400
    seen = Counter(islice(sampler, round(passes * sum(factors))))
    for number, factor in enumerate(factors):
        assert seen[number] / passes == pytest.approx(factor, abs=0.12)
    assert seen[0] in range(passes - 15, passes + 15)  # of a frequent class: once in each


def test_processes_deal_out_one_order(monkeypatch):
    whole = [*islice(RepeatFactorSampler(IMAGES, THRESHOLD, seed=3), 300)]
    for rank in range(3):
        monkeypatch.setattr(repeat_factor, "get_dist_info", lambda rank=rank: (rank, 3))
        part = [*islice(RepeatFactorSampler(IMAGES, THRESHOLD, seed=3), 100)]
        assert part == whole[rank::3]
