"""Data checks before a run starts: files, labels, COCO annotations."""
