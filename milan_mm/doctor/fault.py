"""What a check finds, and how a broken package is looked at without breaking the doctor."""

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator
from typing import Any


class Fault(Exception):
    """What is wrong, and the command or step that fixes it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Concern(Fault):
    """What works for small runs, or for some of them, and what would help the others."""


@contextlib.contextmanager
def blame(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a broken package raises into a `Fault`."""
    try:
        yield
    except Exception as error:
        raise Fault(f"{what}: {one_line(error)}", remedy) from error


def import_quietly(module: str) -> Any:
    """Import a module by name, without what it prints."""
    with quiet():
        return importlib.import_module(module)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what packages print: mmdet warns about optional ones, which would look like findings."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def one_line(error: BaseException) -> str:
    """The message of an error, or else its kind."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def count(number: int, noun: str) -> str:
    """E.g. '1 fault', '2 faults'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
