"""Calls within calls are counted once."""

from benchmarks.stopwatch import Stopwatch


def test_an_inner_call_is_not_counted_twice():
    clock = [0.0]

    def work(seconds: float) -> None:
        clock[0] += seconds

    watch = Stopwatch(lambda: clock[0])
    inner = watch.timed("inner", lambda: work(2))
    outer = watch.timed("outer", lambda: (inner(), work(1), inner()))
    outer()
    outer()
    assert watch.seconds == dict(inner=8, outer=2)


def test_a_call_that_fails_is_counted_and_closed():
    clock = [0.0]

    def fail() -> None:
        clock[0] += 3
        raise ValueError

    def survive() -> None:
        try:
            failing()
        except ValueError:
            clock[0] += 1

    watch = Stopwatch(lambda: clock[0])
    failing = watch.timed("inner", fail)
    watch.timed("outer", survive)()
    assert watch.seconds == dict(inner=3, outer=1)
