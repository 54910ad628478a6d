"""COCO annotation files: read once, checked, and counted."""
