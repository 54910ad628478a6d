"""From the options of a command line to a Runner of mmengine, and its data checks."""
