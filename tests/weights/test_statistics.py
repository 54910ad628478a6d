"""Image statistics as text: names of the usual ones, numbers for all others."""

import pytest

from milan_mm.weights.statistics import STATS, byte_stats, stats_text, stats_values


@pytest.mark.parametrize("name", STATS)
def test_the_usual_statistics_are_named_also_where_they_are_rounded(name: str):
    mean, std = STATS[name]
    assert stats_text(mean, std) == name
    assert stats_text([round(255 * v, 2) / 255 for v in mean], list(std)) == name
    assert stats_values(name) == (mean, std)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.1, 0.2, 0.3), (0.2, 0.2, 0.3)), ((0, 0, 0), (1, 1, 1)), ((-1, 0.486, 3), (2, 1e-3, 255))],
)
def test_other_statistics_are_kept_as_numbers(mean: tuple, std: tuple):
    text = stats_text(mean, std)
    assert text not in STATS
    assert stats_values(text) == (mean, std) and stats_text(*stats_values(text)) == text


def test_one_number_stands_for_all_channels():
    assert stats_text(0.5, [0.5]) == "half"


def test_numbers_in_0_255_are_those_of_data_preprocessors():
    assert byte_stats("imagenet") == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5, 0.5], 0.5), ("half", 0.5), ([0.5, None, 0.5], 0.5), (True, 0.5), (float("inf"), 1)],
)
def test_numbers_that_are_none_are_refused(mean: object, std: object):
    with pytest.raises(ValueError, match=r"^a\.json: mean=.* must be one number, or three"):
        stats_text(mean, std, "a.json")


@pytest.mark.parametrize("std", [0, -1, [1, 1, 0]])
def test_a_standard_deviation_is_positive(std: object):
    with pytest.raises(ValueError, match=r"std=.* must be positive"):
        stats_text(0.5, std)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ImageNet",
        "mean 1 2 3",
        "mean 1 2 3 std 1 1 0",
        "mean 1 2 x std 1 1 1",
        "mean nan 0 0 std 1 1 1",
    ],
)
def test_text_of_no_statistics_is_refused_with_the_names(text: str):
    with pytest.raises(ValueError, match="unknown: choose from imagenet, half, clip, or write"):
        stats_values(text)
