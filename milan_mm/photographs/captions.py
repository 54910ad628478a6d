"""Captions made of class names, and their tokens, which are open_clip's own."""

from collections.abc import Sequence
from functools import cache

from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.photographs.data import synonyms

TEMPLATES = (
    "a photo of a {}",
    "a small photo of a {}",
    "a picture with a {} in it",
    "here is a {}",
    "a {}",
    "a {} seen from nearby",
    "a blurred view of a {}",
)
CONTEXT_LENGTH = 24  # tokens


def words_of(classes: dict[str, str]) -> list[str]:
    """What captions call each class, its commonest word, in the order of `classes`.

    Raises:
        UserError: For a name that is too long.
    """
    words = [synonyms(name)[0] for name in classes.values()]
    template = max((_count(template.format("")), template) for template in TEMPLATES)[1]
    for folder, word in zip(classes, words, strict=True):
        if (length := _count(template.format(word))) > CONTEXT_LENGTH:
            raise UserError(
                f"class '{folder}' is called '{word}': captions of it have {length} tokens, the "
                f"limit is {CONTEXT_LENGTH}; shorten its name"
            )
    return words


def tokens_of(captions: Sequence[str]) -> Tensor:
    """(B, CONTEXT_LENGTH) int64: start, the parts of the words, end, zeros."""
    return _tokenizer()(list(captions))


def _count(caption: str) -> int:
    """Tokens of a caption, start and end included."""
    return len(_tokenizer().encode(caption)) + 2


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CONTEXT_LENGTH)
