"""Logs that cannot be written: lines are lost, and the run goes on.

The next checkpoint cannot be written either if the disk stays full, and that ends the run.
"""

import logging
import sys
from typing import Any

from mmengine import visualization

from milan_mm.registry import VISBACKENDS


class _PatientFileHandler(logging.FileHandler):
    """Says once that it cannot write; Python's own prints a traceback for each line."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._has_failed:
            self._has_failed = True
            _say(self.baseFilename, sys.exc_info()[1])


def keep_logging(logger: logging.Logger) -> None:
    """Let the files of a logger fail without tracebacks, in place."""
    for i, handler in enumerate(logger.handlers):
        if type(handler) is logging.FileHandler:
            patient = _PatientFileHandler(handler.baseFilename, mode="a", encoding="utf-8")
            patient.setFormatter(handler.formatter)
            patient.setLevel(handler.level)
            for condition in handler.filters:
                patient.addFilter(condition)
            logger.handlers[i] = patient
            handler.close()


class _Patient:
    """Curves and pictures without which a run can go on."""

    _has_failed = False

    def add_config(self, *args: Any, **kwargs: Any) -> None:
        """See mmengine's class, as for the others."""
        self._try("add_config", *args, **kwargs)

    def add_image(self, *args: Any, **kwargs: Any) -> None:
        self._try("add_image", *args, **kwargs)

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        self._try("add_scalar", *args, **kwargs)

    def add_scalars(self, *args: Any, **kwargs: Any) -> None:
        self._try("add_scalars", *args, **kwargs)

    def close(self) -> None:
        self._try("close")

    def _try(self, method: str, *args: Any, **kwargs: Any) -> None:
        try:
            getattr(super(), method)(*args, **kwargs)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _say(error.filename or self._save_dir, error)  # type: ignore[attr-defined]


@VISBACKENDS.register_module()
class LocalVisBackend(_Patient, visualization.LocalVisBackend):
    """mmengine's, in the work directory."""


@VISBACKENDS.register_module()
class TensorboardVisBackend(_Patient, visualization.TensorboardVisBackend):
    """mmengine's; TensorBoard writes nothing more once it could not, whoever makes room."""


def _say(path: str, error: BaseException | None) -> None:
    """On the terminal: the log may be what cannot be written."""
    why = getattr(error, "strerror", None) or error
    print(
        f"warning: '{path}' cannot be written: {why}; the run goes on, and lines of its log are "
        "lost",
        file=sys.stderr,
        flush=True,
    )
