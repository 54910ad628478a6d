"""The options that tools share."""

import argparse

import pytest

from milan_mm.run import options
from milan_mm.weights.recognising import READ_OPTIONS


def test_the_options_of_reading_are_those_that_a_weights_file_can_be_read_with():
    parser = argparse.ArgumentParser()
    options.add_reading(parser)
    assert tuple(vars(parser.parse_args([]))) == READ_OPTIONS


def test_given_options_are_named_as_the_user_wrote_them():
    args = argparse.Namespace(num_heads=3, layout=None, student=False)
    assert options.given(args, vars(args)) == ["--num-heads"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (options.positive, "0", "^0: give 1 or more"),
        (options.natural, "-1", "^-1: give 0 or more"),
        (options.positive, "many", "'many' is not a whole number"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_limit(kind, text: str, message: str):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(text)
    assert (options.positive("1"), options.natural("0")) == (1, 0)
