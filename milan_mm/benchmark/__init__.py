"""Speed and memory against the peers: what `tools/benchmark.py` needs without a checkout.

`contest.py` runs contestants in turn; `pretrain.py`, `data.py` and `speed.py` are the subcommands.
`matrix_rate.py` relates a step to what the machine can multiply.
"""

from milan_mm import language_models  # before mmpretrain

__all__ = ["language_models"]
