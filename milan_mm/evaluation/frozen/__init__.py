"""Frozen encoders: features computed once, and the protocols that read them."""
