"""The launchers of one run on several machines: they meet, hear of failures, and leave together.

torchrun's own agents meet too. But a machine that is missing, or was told other numbers, ends there
in minutes of silence and a traceback; a machine that fails is noticed by the others when their
processes time out; and the agent that keeps the store leaves first, under the others' last words.
So the launchers share a key-value store: torch's, which the agents then use as well.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from milan_mm.errors import UserError

SECONDS_TO_MEET = 600
SECONDS_TO_LEAVE = 45.0  # the agents' own limit for ending their processes is 30
SECONDS_TO_SEE = 3.0  # for the others, what is wrong
SECONDS_TO_HEAR = 10.0
SECONDS_BETWEEN_LOOKS = 3.0
SECONDS_OF_SILENCE = 10.0  # before a launcher says what it waits for
_ANSWER = timedelta(seconds=30)
_BOOT = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Machine:
    """One of the machines of a run.

    Attributes:
        host, port: Where the machines meet. nodes: How many come; None where that may change.
        rank: Which this one is; None where the order does not matter. is_host: Whether this one
            keeps the store; None: the first that can.
        seconds: How long it waits for the others.
    """

    host: str
    port: int
    nodes: int | None
    rank: int | None
    is_host: bool | None
    seconds: float = SECONDS_TO_MEET

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"


class Meeting:
    """The machines of a run, from their start to their end.

    Args:
        machine: This one.

    Raises:
        UserError: When not all of them meet in time, or they were told different numbers.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.is_host = False
        self.failure: str | None = None  # of another machine
        self._deadline = time.monotonic() + machine.seconds
        self._done = threading.Event()
        self._machines: dict[int, dict] = {}
        self._store = self._open()
        try:
            self._rank = self._enter()
            if machine.nodes:
                self._wait_for_all(machine.nodes)
        except UserError:
            time.sleep(SECONDS_TO_SEE)
            raise
        except RuntimeError:
            raise UserError(
                f"the launcher at {machine.place} ended before all machines had come: see its "
                "message"
            ) from None

    @property
    def is_at_home(self) -> bool:
        """Whether all launchers run on one host."""
        return len({about["network"] for about in self._machines.values()}) == 1

    def watch(self, end: Callable[[], None]) -> None:
        """Look for failures of the others, in a thread.

        Args:
            end: Called once, when another machine has failed; the reason is `failure`.
        """
        store = TCPStore(
            self.machine.host,
            self.machine.port,
            is_master=False,
            wait_for_workers=False,
            timeout=_ANSWER,
        )

        def look() -> None:
            while not self._done.wait(SECONDS_BETWEEN_LOOKS):
                try:
                    if store.check(["failed"]):
                        self.failure = store.get("failed").decode()
                except RuntimeError:
                    self.failure = f"the launcher at {self.machine.place} has ended"
                if self.failure and not self._done.is_set():
                    end()
                    return

        threading.Thread(target=look, daemon=True).start()

    def hear(self) -> str | None:
        """Wait for the reason of another machine, of which this one has only seen the end."""
        deadline = time.monotonic() + SECONDS_TO_HEAR
        while not self.failure and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.failure

    def leave(self, failure: str | None) -> None:
        """End this machine's part; the one that keeps the store waits until the others have left.

        Args:
            failure: Why this machine ends, if it failed by itself.
        """
        self._done.set()
        try:
            if failure:
                here = f"machine {self._rank} ({socket.gethostname()})"
                self._store.compare_set("failed", "", f"{here}: {failure}")
            left = self._store.add("left", 1)
            everybody = self.machine.nodes or self._store.add("entered", 0)
            deadline = time.monotonic() + SECONDS_TO_LEAVE
            while self.is_host and left < everybody and time.monotonic() < deadline:
                time.sleep(0.1)
                left = self._store.add("left", 0)
        except RuntimeError:
            pass  # the one that keeps the store was ended from outside

    def _open(self) -> TCPStore:
        m = self.machine
        if m.is_host is not False:
            try:
                store = TCPStore(
                    m.host,
                    m.port,
                    is_master=True,
                    wait_for_workers=False,
                    multi_tenant=True,
                    timeout=_ANSWER,
                )
                self.is_host = True
                return store
            except RuntimeError as error:
                if m.is_host and "EADDRINUSE" in str(error):
                    raise
                if m.is_host:
                    raise UserError(
                        f"machine 0 listens on port {m.port} and does not reach itself at "
                        f"{m.place}: set MASTER_ADDR to an address of this machine"
                    ) from None
        self._reach()
        try:
            return TCPStore(
                m.host, m.port, is_master=False, wait_for_workers=False, timeout=_ANSWER
            )
        except RuntimeError:
            raise UserError(
                f"{m.place} is held by another program: set PORT to a free one"
            ) from None

    def _reach(self) -> None:
        """Wait until the store can be reached; a plain socket says why it cannot."""
        m = self.machine
        told = time.monotonic() + SECONDS_OF_SILENCE
        while True:
            try:
                socket.create_connection((m.host, m.port), timeout=5).close()
                return
            except OSError as error:
                why = error.strerror or str(error) or type(error).__name__
            if time.monotonic() > self._deadline:
                raise UserError(
                    f"{m.place} was not reached in {m.seconds:g} s ({why}): check MASTER_ADDR and "
                    "PORT, that machine 0 has started, and that no firewall is in between"
                )
            if told and time.monotonic() > told:
                _say(f"waiting for {m.place} ({why}), {m.seconds:g} s at most")
                told = 0.0
            time.sleep(1)

    def _enter(self) -> int:
        m = self.machine
        entered = self._store.add("entered", 1)
        rank = entered - 1 if m.rank is None else m.rank  # without one a machine may come back
        if m.rank is not None and self._store.add(f"machine {rank}", 1) > 1:
            raise UserError(
                f"{m.place} has a machine {rank} of {m.nodes} already: give each machine a "
                "NODE_RANK of its own, and each run a PORT of its own"
            )
        here = dict(host=socket.gethostname(), nodes=m.nodes, network=_network())
        self._store.set(f"about {rank}", json.dumps(here))
        return rank

    def _wait_for_all(self, nodes: int) -> None:
        m = self.machine
        told = time.monotonic() + SECONDS_OF_SILENCE
        seen = self._machines
        while len(seen) < nodes:
            for rank in set(range(nodes)) - seen.keys():
                if self._store.check([f"about {rank}"]):
                    seen[rank] = json.loads(self._store.get(f"about {rank}"))
                    if (theirs := seen[rank]["nodes"]) != nodes:
                        raise UserError(
                            f"NNODES is {nodes} here and {theirs} on machine {rank} "
                            f"({seen[rank]['host']}): set the same on each"
                        )
            missing = ", ".join(map(str, sorted(set(range(nodes)) - seen.keys())))
            if missing and time.monotonic() > self._deadline:
                raise UserError(
                    f"machine {missing} of {nodes} did not come to {m.place} in {m.seconds:g} s: "
                    "start the same command there, with its NODE_RANK"
                )
            if missing and told and time.monotonic() > told:
                _say(f"waiting for machine {missing} at {m.place}, {m.seconds:g} s at most")
                told = 0.0
            time.sleep(0.1)


def is_here(host: str) -> bool:
    """Whether a host is this machine: only its own addresses can be bound."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as trial:
                trial.bind(address)
                return True
    except OSError:
        pass
    return False


def _network() -> str:
    """What the launchers of one host have in common: since when it is up, and its network."""
    return f"{Path(_BOOT).read_text().strip()} {os.stat('/proc/self/ns/net').st_ino}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
