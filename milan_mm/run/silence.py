"""Keeping what libraries log and print out of a tool's output."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def silence() -> Iterator[None]:
    """Log nothing below an error, and send what is printed to stderr.

    Libraries would warn, for instance, that a model has random weights, where that is intended.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
