"""Fixtures that these tests share with those of `milan_mm/benchmark/`."""

from tests.benchmark.conftest import tiny_clip

__all__ = ["tiny_clip"]
