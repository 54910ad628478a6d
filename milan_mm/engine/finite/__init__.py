"""What `hooks/finite.py` does once a number is NaN or infinite, and what it compares before.

`state` looks at everything that a checkpoint holds. `investigation` repeats an update that failed:
by `tracing`, with `batches` of plain types, into a `report` and into the words of `faults`.
"""
