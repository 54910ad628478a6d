"""What the config beside or inside a weights file says about its encoder."""
