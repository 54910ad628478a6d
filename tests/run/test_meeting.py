"""Launchers of several machines meet, hear of each other's failures, and leave together."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from milan_mm.errors import UserError
from milan_mm.run import meeting
from milan_mm.run.meeting import Machine, Meeting, is_here


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECONDS_BETWEEN_LOOKS", "SECONDS_TO_SEE", "SECONDS_OF_SILENCE"):
        monkeypatch.setattr(meeting, name, 0.3)


@pytest.fixture
def machine() -> Callable[..., Machine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def settings(rank: int, nodes: int = 2, seconds: float = 20) -> Machine:
        return Machine("127.0.0.1", port, nodes, rank, rank == 0, seconds)

    return settings


def outcomes(*machines: Machine) -> list[Meeting | UserError]:
    """What comes of launchers that start together."""

    def meet(one: Machine) -> Meeting | UserError:
        try:
            return Meeting(one)
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(meet, machines))


def test_two_launchers_of_one_host_meet(machine):
    first, second = outcomes(machine(0), machine(1))
    assert first.is_at_home and second.is_at_home
    assert first.is_host and not second.is_host


def test_the_launcher_that_keeps_the_store_leaves_last(machine):
    first, second = outcomes(machine(0), machine(1))
    left = threading.Event()
    thread = threading.Thread(target=lambda: (first.leave(None), left.set()))
    thread.start()
    time.sleep(0.5)
    assert not left.is_set()
    second.leave(None)
    thread.join(5)
    assert left.is_set()


def test_the_failure_of_one_machine_ends_the_others_with_its_reason(machine):
    first, second = outcomes(machine(0), machine(1))
    ended = threading.Event()
    first.watch(ended.set)
    second.leave("process 1 of 2 was ended by SIGKILL")
    assert ended.wait(10)
    assert first.failure.endswith(": process 1 of 2 was ended by SIGKILL")
    assert first.failure.startswith("machine 1 (")
    first.leave(None)


def test_a_machine_that_does_not_come_is_named_with_the_place(machine):
    one = machine(0, seconds=0.5)
    with pytest.raises(UserError) as stop:
        Meeting(one)
    assert str(stop.value).startswith(
        f"machine 1 of 2 did not come to {one.place} in 0.5 s: start the same command there"
    )


def test_a_place_where_nobody_listens_is_named(machine):
    one = machine(1, seconds=0.5)
    with pytest.raises(UserError) as stop:
        Meeting(one)
    assert f"{one.place} was not reached in 0.5 s (Connection refused)" in str(stop.value)
    assert "MASTER_ADDR" in str(stop.value) and "firewall" in str(stop.value)


def test_the_first_machine_must_have_the_address(machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meeting, "_ANSWER", timedelta(seconds=0.5))
    elsewhere = replace(machine(0), host="192.0.2.1")
    with pytest.raises(UserError, match=r"at 192.0.2.1:\d+: set MASTER_ADDR to an address of this"):
        Meeting(elsewhere)


def test_machines_that_were_told_different_numbers_say_both(machine):
    found = outcomes(machine(0), machine(1, nodes=3))
    assert any("NNODES is 2 here and 3 on machine 1" in str(each) for each in found)
    assert any("NNODES is 3 here and 2 on machine 0" in str(each) for each in found)


def test_a_second_machine_of_one_number_is_refused(machine):
    outcomes_of_three = outcomes(machine(0), machine(1), machine(1))
    refused = [each for each in outcomes_of_three if isinstance(each, UserError)]
    assert len(refused) == 1 and "give each machine a NODE_RANK of its own" in str(refused[0])


def test_a_machine_without_a_number_may_come_back(machine):
    one = replace(machine(0), rank=None, is_host=None)
    first, second = outcomes(one, one)
    assert Meeting(one).failure is None
    second.leave(None)
    first.leave(None)


def test_only_addresses_of_this_machine_are_here():
    assert is_here("127.0.0.1") and is_here(socket.gethostname())
    assert not is_here("192.0.2.1") and not is_here("no.such.host.invalid")
