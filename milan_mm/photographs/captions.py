"""Captions made of class names, and their tokens: bytes, so any name in any language will do."""

from collections.abc import Sequence

import torch
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
CONTEXT_LENGTH = 80
# Token 0 pads; byte b is b + 1, and the end has the highest number since open_clip's text tower
# pools at the argmax. Nothing marks the start.
VOCABULARY_SIZE = 258
_END = VOCABULARY_SIZE - 1
_LONGEST = max(len(template.format("").encode()) for template in TEMPLATES)
MAX_NAME = CONTEXT_LENGTH - 1 - _LONGEST  # bytes of a class name that fit into every caption


def words_of(classes: dict[str, str]) -> list[str]:
    """What captions call each class, its commonest word, in the order of `classes`.

    Raises:
        UserError: For a name that is too long.
    """
    words = [synonyms(name)[0] for name in classes.values()]
    for folder, word in zip(classes, words, strict=True):
        if (size := len(word.encode())) > MAX_NAME:
            raise UserError(
                f"class '{folder}' is called '{word}', {size} bytes; captions hold {MAX_NAME}: "
                "shorten its name"
            )
    return words


def tokens_of(captions: Sequence[str]) -> Tensor:
    """(B, CONTEXT_LENGTH) int64: the bytes of each caption, the end token, zeros."""
    tokens = torch.zeros(len(captions), CONTEXT_LENGTH, dtype=torch.int64)
    for row, caption in zip(tokens, captions, strict=True):
        ids = [byte + 1 for byte in caption.encode()] + [_END]
        row[: len(ids)] = torch.tensor(ids)
    return tokens
