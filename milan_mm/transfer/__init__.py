"""Judging an encoder without training it: `encoders.py`, `features.py`, `knn.py`."""
