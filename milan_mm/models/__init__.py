"""The encoder (`plain_vit.py`, read first), what it is made of, and the necks of dense tasks."""

from milan_mm import registry  # first, see `leave_out_language_models`

__all__ = ["registry"]
