"""Captions of the shapes scenes: closed vocabulary, wording, word tokens for the tiny CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from milan_mm.errors import UserError

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
STUFF = ("sand", "grass", "water")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "checkered")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")

_GLUE = ("a", "and", "beside", "near", "in", "on", "over", "with", "picture", "of", "scene")
# Token 0 pads; the end token has the highest id because open_clip's text tower pools at the argmax.
VOCABULARY = ("<pad>", "<start>", *_GLUE, *SIZES, *COLOURS, *TEXTURES, *SHAPES, *STUFF, "<end>")
CONTEXT_LENGTH = 48
_TOKEN = {word: index for index, word in enumerate(VOCABULARY)}


@dataclass
class SceneObject:
    """One foreground object.

    Attributes:
        mask: (H, W) bool, the visible pixels.
        bbox: (x, y, width, height) of the visible pixels, in pixels.
    """

    shape: str
    colour: str
    texture: str
    size: str
    mask: np.ndarray = field(repr=False)
    bbox: tuple[int, int, int, int] = (0, 0, 0, 0)


def describe(objects: Sequence[SceneObject], stuff: str, rng: np.random.Generator) -> str:
    """Write a caption that names every object, and two times in three the background.

    Word order varies, and so does the share of attributes that a caption mentions, so that shape
    words are often the only difference between scenes.
    """
    detail = rng.uniform(0.2, 1.0)
    phrases = [_phrase(objects[i], detail, rng) for i in rng.permutation(len(objects))]
    joins = [str(rng.choice(("and", "beside", "near"))) for _ in phrases[1:]]
    text = phrases[0]
    for join, phrase in zip(joins, phrases[1:], strict=True):
        text = f"{text} {join} {phrase}"
    form = rng.integers(6)
    if form < 2:
        text = f"{text} {rng.choice(('on', 'over'))} {stuff}"
    elif form < 4:
        text = f"{stuff} with {text}"
    if rng.random() < 0.2:
        text = f"a {rng.choice(('picture', 'scene'))} of {text}"
    return text


def encode_caption(caption: str) -> np.ndarray:
    """Turn a caption into word tokens for the tiny CLIP's text tower.

    Returns: (CONTEXT_LENGTH,) int64, start token, words, end token, zeros.
    Raises: ValueError for a word outside `VOCABULARY` or a caption that is too long.
    """
    words = caption.lower().split()
    unknown = [word for word in words if word not in _TOKEN]
    if unknown:
        raise UserError(
            f"caption word {unknown[0]!r} is not in the vocabulary of the shapes scenes"
        )
    if len(words) > CONTEXT_LENGTH - 2:
        raise UserError(
            f"caption has {len(words)} words, at most {CONTEXT_LENGTH - 2} fit; shorten"
        )
    tokens = np.zeros(CONTEXT_LENGTH, np.int64)
    ids = [_TOKEN["<start>"], *(_TOKEN[word] for word in words), _TOKEN["<end>"]]
    tokens[: len(ids)] = ids
    return tokens


def _phrase(obj: SceneObject, detail: float, rng: np.random.Generator) -> str:
    """Name one object, with each attribute at probability `detail`."""
    colour_last = rng.random() < 0.25
    adjectives = [obj.size, obj.texture] if colour_last else [obj.size, obj.colour, obj.texture]
    words = ["a", *(word for word in adjectives if rng.random() < detail), obj.shape]
    if colour_last and rng.random() < detail:
        words += ["in", obj.colour]
    return " ".join(words)
