"""The encoder (`plain_vit.py`, read first), what it is made of, and the necks of dense tasks."""
