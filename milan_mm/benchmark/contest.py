"""Several ways to do the same work, run in turn: times, peak memory and their ratios.

Every contestant has its own process, so its memory can be measured. They prepare at the same time.
Then they take turns (A B A B ...), so that other load on the machine affects all of them alike.
"""

import importlib
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from milan_mm.benchmark.flop_count import count_flops
from milan_mm.lifetime import end_with_parent


@dataclass(frozen=True)
class Entry:
    """A contestant: a function that prepares the work and returns one step of it.

    Attributes:
        name: For the printed table.
        prepare: 'module:function' in an importable module; called as `function(**settings)` in the
            contestant's process. Returns a callable without arguments: one step of the work.
            Only `Contest.results` uses what a step returns.
        settings: Arguments of `prepare`, picklable.
        trains_like_us: Whether its process keeps freed memory as tools/train.py does, see
            `keep_freed_memory`.
    """

    name: str
    prepare: str
    settings: dict = field(default_factory=dict)
    trains_like_us: bool = False


@dataclass
class Measurements:
    """Measured steps of one contestant.

    Attributes:
        seconds: Of every measured step.
        memory: Largest peak of a step in GiB above the memory in use before `prepare`. It includes
            weights, optimizer and activations, but not libraries. On a GPU, what torch allocated
            there.
    """

    seconds: list[float] = field(default_factory=list)
    memory: float = 0.0

    @property
    def median(self) -> float:
        """Seconds of the middle step."""
        return statistics.median(self.seconds)


class Contest:
    """Contestants that run in turn; use it in a `with` statement.

    Args:
        entries: Who takes part.
        threads: CPU threads of each, since only one of them works at a time.

    Raises:
        RuntimeError: When a contestant fails; its traceback is in the message.
    """

    def __init__(self, entries: Sequence[Entry], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: dict[str, Connection] = {}
        self._processes = []
        self.measured = {entry.name: Measurements() for entry in entries}
        try:
            for entry in entries:
                self._pipes[entry.name], far_end = context.Pipe()
                settings = (far_end, entry, threads)
                process = context.Process(target=_serve, args=settings, daemon=True)
                with _environment(entry):
                    process.start()
                far_end.close()  # or the pipe would stay open when the process ends
                self._processes.append(process)
            for entry in entries:
                self._ask(entry.name, None)  # until it is prepared
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def results(self) -> dict[str, Any]:
        """Whatever a step of each returns, to check that they agree; the step is not measured."""
        return {name: self._ask(name, "result") for name in self._pipes}

    def flops(self) -> dict[str, int]:
        """FLOPs of one step of each, see `count_flops`; the step is not measured."""
        return {name: self._ask(name, "flops") for name in self._pipes}

    def run(self, rounds: int, warm_up: int = 1, after: Callable[[], None] | None = None) -> None:
        """Measure `rounds` steps of each, in turn.

        Args:
            rounds: Measured steps of each. warm_up: Steps before these.
            after: Called after every round, e.g. to move a progress bar.
        """
        for name in self._pipes:
            for _ in range(warm_up):
                self._ask(name, "step")
        for _ in range(rounds):
            for name, measured in self.measured.items():
                seconds, memory = self._ask(name, "step")
                measured.seconds.append(seconds)
                measured.memory = max(measured.memory, memory)
            if after:
                after()

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def _ask(self, name: str, order: str | None) -> Any:
        pipe = self._pipes[name]
        try:
            if order:
                pipe.send(order)
            answer, failure = pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"'{name}' died, perhaps because memory ran out") from error
        if failure:
            raise RuntimeError(f"'{name}' failed:\n{failure}")
        return answer


@contextmanager
def _environment(entry: Entry) -> Iterator[None]:
    """Set the variable that torch reads on import for processes that start in the meantime."""
    name = "THP_MEM_ALLOC_ENABLE"
    before = os.environ.get(name)
    os.environ[name] = "1" if entry.trains_like_us else "0"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _serve(pipe: Connection, entry: Entry, threads: int) -> None:
    """A contestant's process: prepare, then do what the contest asks for."""
    end_with_parent()
    try:
        torch.set_num_threads(threads)
        if entry.trains_like_us:
            from milan_mm.engine.memory import keep_freed_memory  # imports mmengine

            keep_freed_memory()
        module, _, function = entry.prepare.partition(":")
        prepare = getattr(importlib.import_module(module), function)
        before = _memory_in_use()
        step = prepare(**entry.settings)
        pipe.send((None, None))
        while True:
            order = pipe.recv()
            if order in ("result", "flops"):
                pipe.send((step() if order == "result" else count_flops(step), None))
                continue
            _forget_peak()
            start = now()
            step()
            seconds = now() - start
            pipe.send(((seconds, (_peak_memory() - before) / 2**30), None))
    except EOFError:
        return
    except Exception:
        pipe.send((None, traceback.format_exc()))


def _memory_in_use() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else _status("VmRSS")


def _peak_memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here


def _status(name: str) -> int:
    """Bytes of this process, from Linux's /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}: memory is measured on Linux only")


@dataclass(frozen=True)
class Comparison:
    """A number of ours and the peer's.

    Attributes:
        bench: Subcommand, e.g. 'pretrain'. case: What was compared, e.g. 'ViT-B/16, bfloat16'.
        metric: 'time', 'memory', 'throughput' or a share. ours, peer: The numbers. unit: Of both.
        spread: Range of both as text, for the printed line; '' where there is none.
    """

    bench: str
    case: str
    metric: str
    ours: float
    peer: float
    unit: str
    spread: str = ""

    @property
    def gain(self) -> float:
        """Over 1 where ours is better: less time, less memory, more images per second."""
        if self.metric in ("time", "memory"):
            return self.peer / self.ours
        return self.ours / self.peer

    def as_json(self) -> str:
        """One line for scripts."""
        keys = ("bench", "case", "metric", "ours", "peer", "unit")
        row = {key: getattr(self, key) for key in keys}
        return json.dumps(row | dict(gain=round(self.gain, 3)))


def compare(
    bench: str, case: str, ours: Measurements, peer: Measurements
) -> tuple[Comparison, Comparison]:
    """Time and memory of a contest between two."""
    ranges = (f"{min(m.seconds):.3g} to {max(m.seconds):.3g}" for m in (ours, peer))
    time_row = Comparison(
        bench, case, "time", ours.median, peer.median, "s/step", " against ".join(ranges)
    )
    return time_row, Comparison(bench, case, "memory", ours.memory, peer.memory, "GiB")


def report(rows: Sequence[Comparison]) -> None:
    """Print a sentence and a JSON line for every comparison."""
    for row in rows:
        spread = f" ({row.spread})" if row.spread else ""
        ours, peer = (f"{n:,.0f}" if n >= 100 else f"{n:.3g}" for n in (row.ours, row.peer))
        print(
            f"{row.case}: {row.metric} {ours} {row.unit} against {peer}{spread}, "
            f"gain {row.gain:.2f}"
        )
    for row in rows:
        print(row.as_json())
    sys.stdout.flush()


def default_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def now() -> float:
    """Seconds on a clock, read after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def default_threads() -> int:
    """All cores that this process may use."""
    return len(os.sched_getaffinity(0))
