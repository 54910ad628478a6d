"""Speed and memory beside the peers, for `tools/benchmark.py`: one file per subcommand.

`contest.py` runs two contestants in turn; the other files say who they are.
"""
