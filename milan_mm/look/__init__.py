"""Pictures: what pretraining sees, what detectors and segmentors find, and the HTML report."""
