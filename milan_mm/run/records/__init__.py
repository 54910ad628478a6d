"""The record of a run in its checkpoints, and how two of them differ."""
