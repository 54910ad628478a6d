"""A sample of benchmarks/reliability/hostile_data.py, and its list of entries."""

import argparse
import warnings

import pytest

from benchmarks.reliability import payloads
from benchmarks.reliability.forked import TOOLS, main_of, run
from benchmarks.reliability.hostile_data import ENTRIES, Attack, cases, load_libraries

# Options that name data of the user's, by tool; those that are left out name weights or results.
NOT_DATA = {
    ("evaluate", "--data"),  # the folder above the published data sets, by way of recipes
    ("ablation", "--data"),  # its parts are run by tools/train.py and tools/knn.py
    ("photographs", "data"),  # as those of the ablation
    ("train_photographs_clip", "data"),  # its reader has tests of its own, see tests/photographs
    ("benchmark", "--data"),  # it measures how fast sound files are read
    ("benchmark", "--images"),  # a number
    ("make_shapes", "root"),  # is written
    ("evaluate", "--depth-data"),  # its reader has tests of its own, see tests/recipes
}
WORDS = ("data", "images", "root", "source", "pictures", "knn_data", "dir")
SAMPLE = ("file_name '../../outside.png'", "1e9", "nested a million", "EPS", "value 2**31")


def parsers_of(tool: str, monkeypatch: pytest.MonkeyPatch) -> list[argparse.ArgumentParser]:
    """The parser of a tool, and those of its subcommands."""
    made: list[argparse.ArgumentParser] = []
    init = argparse.ArgumentParser.__init__

    def note(self: argparse.ArgumentParser, *args: object, **settings: object) -> None:
        init(self, *args, **settings)
        made.append(self)

    with monkeypatch.context() as context:
        context.setattr(argparse.ArgumentParser, "__init__", note)
        with pytest.raises(SystemExit):
            main_of(tool)(["--help"])  # type: ignore[operator]
    return made


def test_every_option_that_takes_data_is_attacked(monkeypatch, capsys):
    tools = [path.stem for path in TOOLS.glob("[a-z]*.py")]
    known = {(entry.tool, entry.option) for entry in ENTRIES}
    found = set()
    for tool in sorted(tools):
        for parser in parsers_of(tool, monkeypatch):
            for action in parser._actions:
                if action.dest in WORDS or action.dest.endswith("_data"):
                    found.add((tool, next(iter(action.option_strings), action.dest)))
    assert found - known <= NOT_DATA


@pytest.mark.long
def test_a_sample_of_hostile_data_ends_with_a_line(tmp_path):
    warnings.simplefilter("ignore")
    load_libraries()
    attack = Attack(tmp_path)
    chosen = [
        (payload, entry)
        for payload, entry in cases()
        if entry.tool in ("check_data", "convert_data") and any(s in payload.name for s in SAMPLE)
    ]
    assert len(chosen) > 8
    for payload, entry in chosen:
        outcome, fault = attack.run(payload, entry)
        assert not fault, (payload.name, str(entry), outcome.text[-500:])


def test_a_crash_a_trace_and_a_hang_are_seen(tmp_path, monkeypatch):
    def crash(_: list[str]) -> None:
        import ctypes

        ctypes.string_at(0)

    def defect(_: list[str]) -> None:
        raise KeyError("x")

    def greedy(_: list[str]) -> None:
        bytearray(10**11)

    for function, fault in ((crash, "exit code -11"), (defect, "exit code 70"), (greedy, "exit")):
        monkeypatch.setattr("benchmarks.reliability.forked.main_of", lambda _, f=function: f)
        assert run("any", [], tmp_path).fault.startswith(fault)


def test_sound_data_are_accepted(tmp_path):
    for kind in ("coco", "pairs", "classes"):
        payloads.sound(kind, tmp_path / kind / "data")
        task = dict(coco="det", pairs="seg", classes="cls")[kind]
        words = [task, "--data", tmp_path / kind / "data", "--workers", "0"]
        assert run("check_data", words, tmp_path / kind).code == 0
