"""Parts of the training images: drawn with the same share or number of each class, or listed.

As DINOv3's evaluation draws them: at least one image of each class, by a generator of its own for
each draw. SimCLR's 1 % and 10 % of ImageNet are lists of file names.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from milan_mm.errors import MissingFileError, UserError


def draw(labels: Tensor, amount: int | float, seed: int, among: Tensor | None = None) -> Tensor:
    """Some images of each class.

    Args:
        labels: (N,) int64.
        amount: Images of each class; below 1 the share of all images of each class, of which
            there is always one.
        among: (n,) int64, the images to draw from; None takes all.

    Returns:
        Rising numbers of images, int64.
    """
    among = torch.arange(len(labels)) if among is None else among
    generator = np.random.default_rng([seed, 0x5EED])
    order = among[torch.from_numpy(generator.permutation(len(among)))]
    order = order[labels[order].argsort(stable=True)]  # shuffled within each class
    counts = torch.bincount(labels[order])
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    total = torch.bincount(labels)
    wanted = (total * amount).long().clamp_min(1) if amount < 1 else total * 0 + int(amount)
    return order[place < wanted[labels[order]]].sort().values


def hold_out(labels: Tensor, share: float, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A part of each class to choose by, and the rest; a class of one image has no such part.

    Args:
        share: Of each class, at least one image.
        among: See `draw`.

    Returns:
        Rising numbers of the images to fit to, and of those held out.
    """
    among = torch.arange(len(labels)) if among is None else among
    several = (torch.bincount(labels[among]) > 1)[labels[among]]
    held = draw(labels, share, 0, among[several]) if several.any() else among[:0]
    return among[~torch.isin(among, held)], held


def read_list(path: str | Path, names: Sequence[str]) -> Tensor:
    """The images that a file lists, a name in each line, with or without its folder.

    Args:
        names: Of all training images, relative to their folder.

    Returns:
        Their rising numbers, int64.

    Raises:
        MissingFileError: When there is no such file.
        UserError: When it lists an image that is not there, or one twice.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"list of images '{path}' does not exist")
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    listed = [line.strip() for line in lines if line.strip()]
    number = {name: i for i, name in enumerate(names)}
    number |= {Path(name).name: i for i, name in enumerate(names)}
    if unknown := [name for name in listed if name not in number]:
        raise UserError(
            f"'{path}' lists {len(unknown)} images that are not among the {len(names)} training "
            f"images, e.g. '{unknown[0][:80]}': it is a list of another data set"
        )
    found = sorted({number[name] for name in listed})
    if len(found) < len(listed) or not found:
        raise UserError(
            f"'{path}' lists {len(listed)} images, of which {len(found)} are different: each must "
            "be there once"
        )
    return torch.tensor(found)
