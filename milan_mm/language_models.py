"""Importing this lets mmpretrain be imported beside transformers 5, without some of its models.

Its models of language and images are written for transformers 4, and it imports them wherever
transformers is installed. So this comes before whatever imports mmpretrain's models.
"""

from importlib.metadata import PackageNotFoundError, version


def leave_out() -> None:
    """Let mmpretrain think that it has no language models, if they cannot be imported."""
    try:
        major = int(version("transformers").partition(".")[0])
    except PackageNotFoundError:
        return
    if major >= 5:
        from mmpretrain.utils import dependency

        dependency.WITH_MULTIMODAL = False


leave_out()
