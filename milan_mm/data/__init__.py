"""Data of the demo and data loading helpers; import the modules by name."""
