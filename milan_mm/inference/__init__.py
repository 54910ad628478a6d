"""From the checkpoint of a training to predictions on pictures; no config is needed."""
