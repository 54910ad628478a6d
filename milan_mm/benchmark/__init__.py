"""Speed and memory against the peers: what `tools/benchmark.py` needs without a checkout.

`contest.py` runs contestants in turn; `pretrain.py`, `data.py` and `speed.py` are the subcommands.
`matrix_rate.py` relates a step to what the machine can multiply.
"""

from milan_mm import registry  # first, see `leave_out_language_models`

__all__ = ["registry"]
