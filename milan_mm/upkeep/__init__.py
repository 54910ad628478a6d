"""Whole data sets, every file of them: checks and smaller copies."""
