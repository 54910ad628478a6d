"""Where a training starts: at the beginning, at a checkpoint, or from pretrained weights."""
