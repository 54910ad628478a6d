"""Pictures: what pretraining sees, what detectors and segmentors find."""
