"""Weight files: `reading.py` (safely), `loading.py` (strictly), `exporting.py`, `converting.py`."""
