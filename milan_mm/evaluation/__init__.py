"""Weights x tasks to rows, and rows to tables."""
