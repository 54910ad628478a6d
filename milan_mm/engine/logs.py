"""Logs that cannot be written: lines are lost, and the run goes on.

The next checkpoint cannot be written either if the disk stays full, and that ends the run.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine import visualization
from mmengine.config import Config

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


@VISBACKENDS.register_module()
class LocalVisBackend(visualization.LocalVisBackend):
    """mmengine's curves and pictures in the work directory, without which a run can go on."""

    _has_failed = False

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """See mmengine's class."""
        with self._patiently():
            super().add_config(config, **kwargs)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """See mmengine's class; (H, W, 3) uint8, RGB."""
        with self._patiently():
            super().add_image(name, image, step, **kwargs)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """See mmengine's class."""
        with self._patiently():
            super().add_scalar(name, value, step, **kwargs)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """See mmengine's class."""
        with self._patiently():
            super().add_scalars(scalar_dict, step, file_path, **kwargs)

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _say(error.filename or self._save_dir, error)


def _say(path: str, error: BaseException | None) -> None:
    """On the terminal: the log may be what cannot be written."""
    why = getattr(error, "strerror", None) or error
    print(
        f"warning: '{path}' cannot be written: {why}; the run goes on, and lines of its log are "
        "lost",
        file=sys.stderr,
        flush=True,
    )
