"""From photographs to the file of a teacher: read, train, save, measure."""

import json
from pathlib import Path

import torch

from milan_mm.errors import UserError
from milan_mm.photographs.captions import words_of
from milan_mm.photographs.data import read_classes
from milan_mm.photographs.measures import evaluate
from milan_mm.photographs.models import CLIP, SIZE
from milan_mm.photographs.pixels import read_split
from milan_mm.photographs.training import STAGES, Stage, shuffle, train
from milan_mm.pretrain.clip_training import save_clip


def train_teacher(
    root: Path,
    out: Path,
    shuffled: bool = False,
    seed: int = 0,
    stages: tuple[Stage, ...] = STAGES,
) -> dict[str, float]:
    """Train a CLIP on the teacher's training images, write it, and measure it.

    On one thread the same photographs and seed give the same weights. The file is written whole, as
    soon as the training ends, and once more with the numbers.

    Args:
        root: Folder of photographs, see `data.py`.
        out: A safetensors file; one that is there is replaced.
        shuffled: Train the control, see `training.py`.

    Returns:
        See `evaluate`.

    Raises:
        MissingFileError, UserError: For photographs or a name of a file that cannot be used.
        OSError: When the file cannot be written; before the training where that shows.
    """
    if out.is_dir():
        raise UserError(f"'{out}' is a folder: give the name of a safetensors file")
    if out.suffix != ".safetensors":
        raise UserError(
            f"'{out}' does not end in .safetensors, which is what is written: rename it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    classes = read_classes(root)
    for role in (classes.teacher, classes.student):
        words_of(role)
    images, labels = read_split(root / "teacher/train", classes.teacher, SIZE)
    if shuffled:
        labels = shuffle(labels, seed)
    model = train(images, labels, classes.teacher, seed, stages)
    command = f"tools/train_photographs_clip.py DATA{' --shuffled' if shuffled else ''}"
    command += f" --seed {seed} --threads {torch.get_num_threads()}"
    facts = dict(
        seed=str(seed),
        captions="shuffled" if shuffled else "class names",
        classes=json.dumps(classes.teacher),
        images=str(len(images)),
    )
    save_clip(model, CLIP, out, command, metadata=facts)
    numbers = evaluate(out, root)
    save_clip(model, CLIP, out, command, numbers, facts)
    return numbers
