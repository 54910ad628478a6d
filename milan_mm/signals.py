"""Signals that ask a training to end.

They are noted when they come, and acted upon between two updates (`engine/hooks/stopping.py`).
"""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from milan_mm.errors import SIGNALS, Stopped

# Ctrl-C reaches the process by the terminal and by its launcher: together they count once.
SECONDS_OF_ONE = 1.0


class StopSignals:
    """Notes the signals that come while a training runs; a context.

    Before the first update there is nothing to finish, and the process ends: Ctrl-C interrupts it,
    others raise `Stopped`. From `begin` on a signal is noted, until somebody acts upon it. A second
    Ctrl-C interrupts.

    Signals that are ignored (`nohup`) stay so, and so do those for which the caller has a handler
    of its own. Outside the main thread Python allows no handlers.

    Attributes:
        number: Of the signal that came, the highest if several did; 0 without one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._is_training = False
        self._first = 0.0
        self._replaced: list[int] = []

    def begin(self) -> None:
        """From now on signals are noted: an update is about to run."""
        self._is_training = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    signal.signal(number, self._note)
                    self._replaced.append(number)
        _Workers.survive = bool(self._replaced)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import torch.distributed as dist  # here, since launchers need only the list of signals

        _Workers.survive = False
        # a launcher sends SIGTERM to the processes that end later than the first
        ends = isinstance(error, Stopped) and dist.is_available() and dist.is_initialized()
        for number in self._replaced:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if ends else usual)
        self._replaced.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._is_training:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            name = signal.Signals(number).name
            raise Stopped(128 + number, f"stopped by {name} before the first update")
        now = time.monotonic()
        if not self.number:
            self._first = now
        elif number == signal.SIGINT and now - self._first > SECONDS_OF_ONE:
            raise KeyboardInterrupt
        self.number = max(self.number, number)


class _Workers:
    """The data-loading workers of a training outlive a signal to their whole group.

    Their process needs them to finish its update, and ends them. So they ignore what asks a
    training to end. SIGTERM they obey if it comes from their process: a thread looks who sent it.
    """

    survive = False

    @classmethod
    def after_fork(cls) -> None:
        if not cls.survive:
            return
        for number in SIGNALS:
            if number != signal.SIGTERM:
                signal.signal(number, signal.SIG_IGN)
        # before any thread starts, so that all of them leave it to `_obey_parent`
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=cls._obey_parent, args=(os.getppid(),), daemon=True).start()

    @staticmethod
    def _obey_parent(parent: int) -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)


os.register_at_fork(after_in_child=_Workers.after_fork)  # Python offers no way to take it back
