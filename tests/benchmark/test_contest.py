"""Contests: who works when, whose fault an error is, what memory and gains mean."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from milan_mm.benchmark.contest import Comparison, Contest, Entry, Measurements, compare, report

MIB = 2**20


def note_turns(diary: str, letter: str) -> Callable[[], str]:
    """A contestant that writes its letter into a file at every step, and multiplies 2 numbers."""

    def step() -> str:
        with open(diary, "a") as file:
            file.write(letter)
        torch.ones(1, 1) @ torch.ones(1, 1)
        return letter.lower()

    return step


def allocate(held: int, used: int) -> Callable[[], None]:
    """A contestant that holds some MiB all the time and uses more during a step."""
    kept = torch.ones(held * MIB, dtype=torch.uint8)

    def step() -> None:
        torch.ones(used * MIB, dtype=torch.uint8)
        assert kept[0] == 1

    return step


def fail_at_once() -> Callable[[], None]:
    raise ValueError("no such thing")


def look_at_pages() -> Callable[[], bool]:
    """A contestant that returns whether all of its large tensors begin at a page."""
    return lambda: all(torch.empty(n).data_ptr() % 4096 == 0 for n in range(2**19, 2**19 + 20))


def die() -> Callable[[], None]:
    """A contestant whose process just ends, as when the kernel runs out of memory."""

    def step() -> None:
        os._exit(9)

    return step


def entry(name: str, function: Callable, **settings) -> Entry:
    return Entry(name, f"{__name__}:{function.__name__}", settings)


def test_contestants_work_in_turn_after_their_warm_up(tmp_path: Path):
    diary = tmp_path / "diary"
    entries = [entry(name, note_turns, diary=str(diary), letter=name) for name in "AB"]
    rounds = []
    with Contest(entries, threads=1) as contest:
        assert contest.results() == dict(A="a", B="b")
        assert diary.read_text() == "AB"
        contest.run(rounds=3, warm_up=2, after=lambda: rounds.append(diary.read_text()))
        assert rounds == ["ABAABBAB", "ABAABBABAB", "ABAABBABABAB"]
        assert contest.flops() == dict(A=2, B=2)
    assert [len(contest.measured[name].seconds) for name in "AB"] == [3, 3]


def test_memory_is_what_preparation_and_step_of_a_contestant_allocate():
    entries = [
        entry("big", allocate, held=300, used=200),
        entry("small", allocate, held=1, used=1),
    ]
    with Contest(entries, threads=1) as contest:
        contest.run(rounds=2, warm_up=0)
    assert contest.measured["big"].memory * 1024 == pytest.approx(500, abs=50)
    assert contest.measured["small"].memory * 1024 < 100


def test_a_contestant_that_cannot_prepare_is_named():
    with pytest.raises(RuntimeError, match=r"'B' failed:\n(.|\n)*ValueError: no such thing"):
        Contest([entry("B", fail_at_once)], threads=1)


def test_a_contestant_that_dies_is_named():
    message = "'A' died, perhaps because memory ran out"
    with Contest([entry("A", die)], 1) as contest, pytest.raises(RuntimeError, match=message):
        contest.run(rounds=1)


@pytest.mark.parametrize(
    ("metric", "ours", "peer", "gain"),
    [("time", 2.0, 3.0, 1.5), ("memory", 1.0, 4.0, 4.0), ("throughput", 300.0, 200.0, 1.5)],
)
def test_gain_is_over_1_where_ours_is_better(metric, ours, peer, gain):
    assert Comparison("bench", "case", metric, ours, peer, "unit").gain == gain


def test_report_is_a_sentence_and_a_line_for_scripts(capsys):
    ours, peer = Measurements([1.0, 2.0, 6.0], 1.5), Measurements([3.0, 4.0, 5.0], 3.0)
    report(compare("pretrain", "ViT-B/16", ours, peer))
    time, memory, time_json, memory_json = capsys.readouterr().out.splitlines()
    assert time == "ViT-B/16: time 2 s/step against 4 (1 to 6 against 3 to 5), gain 2.00"
    assert memory == "ViT-B/16: memory 1.5 GiB against 3, gain 2.00"
    assert json.loads(time_json) == dict(
        bench="pretrain",
        case="ViT-B/16",
        metric="time",
        ours=2.0,
        peer=4.0,
        unit="s/step",
        gain=2.0,
    )
    assert json.loads(memory_json)["gain"] == 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="torch aligns to pages on Linux alone")
def test_only_who_trains_like_us_gets_the_memory_of_our_trainings(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "kept")
    prepare = f"{__name__}:{look_at_pages.__name__}"
    entries = [Entry("ours", prepare, trains_like_us=True), Entry("peer", prepare)]
    with Contest(entries, threads=1) as contest:
        assert contest.results() == dict(ours=True, peer=False)
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "kept"
