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
    ("given", "message"),
    [
        (["--epoch", "3"], "--epoch is not an option here: did you mean --epochs?"),
        (["--wieghts=a.pth"], "--wieghts is not an option here: did you mean --weights?"),
        (["--batch", "3"], "--batch is not an option here: did you mean --batch-per-gpu?"),
        (["--zzz"], "--zzz is not an option here: --help lists all options"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_nearest(capsys, given: list[str], message: str):
    parser = options.tool_parser("A tool.")
    options.add_weights(parser, required=True)
    options.add_run(parser, "", "")
    options.add_schedule(parser)
    options.add_batch_per_gpu(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(given)
    assert stop.value.code == 2 and message in capsys.readouterr().err
    args = parser.parse_args(["--weights=a.pth", "--epochs", "3", "--local_rank=1"])
    assert (args.weights, args.epochs, args.local_rank) == ("a.pth", 3, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing was given: the first word must be masks or attention"),
        (["zzz"], "'zzz' is not a FIGURE: the first word must be masks or attention"),
        (["atention", "--weights", "a.pth"], "'atention' is not a FIGURE: did you mean attention?"),
    ],
)
def test_a_misspelt_command_is_refused_with_the_nearest(capsys, given: list[str], message: str):
    parser = options.tool_parser("A tool.")
    figures = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    figures.add_parser("masks")
    options.add_weights(figures.add_parser("attention"))
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(given)
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert parser.parse_args(["attention", "--weights", "a.pth"]).figure == "attention"


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
