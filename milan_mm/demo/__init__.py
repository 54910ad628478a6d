"""The parts of `tools/demo.py`: the jobs it runs and the report it writes."""
