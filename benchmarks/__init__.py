"""Benchmarks that prove the figures in docs/performance.md and LOG.md; not part of the wheel.

`tools/benchmark.py` runs them from a checkout: `dense.py` and `dense_step.py` (backbones and whole
steps at 1024 pixels), `flops.py`, `scale.py`, `sections.py` (`pretrain --profile`), `stages.py`
(`data --profile`) and `copies.py` (`data --short-side`). What users need for their own machine is
in `milan_mm/benchmark/`.
"""
