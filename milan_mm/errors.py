"""Mistakes of the user. The message names the value, the limit and the remedy.

The tools print these as one line and exit with code 2; any other error is a defect and keeps its
traceback. Each class is also the built-in error that a caller from Python would expect.
"""


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot work."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should be there."""


class ExistingFileError(UserError, FileExistsError):
    """A file or folder that is in the way."""


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss that is NaN or infinite."""
