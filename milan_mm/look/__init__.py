"""Figures of any weights and any images, one file per figure."""
