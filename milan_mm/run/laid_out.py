"""The config of a run, whose text is laid out once however often it is written down.

A run needs that text for its log, its folder, its curves, mmengine's hub of messages and each of
its checkpoints. mmengine runs yapf every time, which takes most of a second for a large config.
"""

from mmengine.config import Config


class LaidOutOnce(Config):
    """A config that keeps its text until its content changes.

    The text is mmengine's own, byte for byte. Copies take it with them.
    """

    @classmethod
    def of(cls, cfg: Config) -> "LaidOutOnce":
        """The same config, as mmengine pickles it: both have one content."""
        same = cls.__new__(cls)
        same.__setstate__(cfg.__getstate__())
        return same

    @property
    def pretty_text(self) -> str:
        """The content as Python code, laid out by yapf."""
        content = Config(self.to_dict(), format_python_code=False).pretty_text
        # past mmengine's `__setattr__`, which sets fields of the content
        laid_out = self.__dict__.setdefault("_laid_out", {})
        if content not in laid_out:
            laid_out.clear()
            laid_out[content] = super().pretty_text
        return laid_out[content]
