"""From photographs to the file of a teacher: read, train, save, measure."""

import json
import time
from pathlib import Path

import torch

from milan_mm.errors import UserError
from milan_mm.photographs.arms import CAPTIONS, SHUFFLED, VIEWS
from milan_mm.photographs.captions import words_of
from milan_mm.photographs.data import read_classes
from milan_mm.photographs.measures import evaluate
from milan_mm.photographs.models import CLIP, NO_CAPTIONS, PROCESSOR_SECONDS, SIZE
from milan_mm.photographs.pixels import read_split
from milan_mm.photographs.training import STAGES, Stage, shuffle, train
from milan_mm.photographs.views import VIEW_STAGES, train_on_views
from milan_mm.pretrain.clip_training import save_clip

SCHEDULES = {CAPTIONS: STAGES, SHUFFLED: STAGES, VIEWS: VIEW_STAGES}
OPTIONS = {CAPTIONS: [], SHUFFLED: ["--shuffled"], VIEWS: ["--no-captions"]}  # of the tool
_STATED = {CAPTIONS: "class names", SHUFFLED: "shuffled", VIEWS: NO_CAPTIONS}


def train_teacher(
    root: Path,
    out: Path,
    name: str = CAPTIONS,
    seed: int = 0,
    stages: tuple[Stage, ...] | None = None,
) -> dict[str, float]:
    """Train a CLIP on the teacher's training images, write it, and measure it.

    On one thread the same photographs and seed give the same weights. The file is written whole, as
    soon as the training ends, and once more with the numbers. Both times it states the processor
    seconds until then, so that they outlive an interruption.

    Args:
        root: Folder of photographs, see `data.py`.
        out: A safetensors file; one that is there is replaced.
        name: Of `TEACHERS`: what it learns from, see `training.py` and `views.py`.
        stages: None takes those of `SCHEDULES`.

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
    start = time.process_time()
    out.parent.mkdir(parents=True, exist_ok=True)
    classes = read_classes(root)
    for role in (classes.teacher, classes.student):
        words_of(role)
    images, labels = read_split(root / "teacher/train", classes.teacher, SIZE)
    stages = stages or SCHEDULES[name]
    if name == VIEWS:
        model = train_on_views(images, seed, stages)
    else:
        labels = shuffle(labels, seed) if name == SHUFFLED else labels
        model = train(images, labels, classes.teacher, seed, stages)
    command = " ".join(["tools/train_photographs_clip.py DATA", *OPTIONS[name]])
    command += f" --seed {seed} --threads {torch.get_num_threads()}"
    facts = dict(
        seed=str(seed),
        captions=_STATED[name],
        classes=json.dumps(classes.teacher),
        images=str(len(images)),
    )
    save_clip(model, CLIP, out, command, metadata=facts | _seconds_since(start))
    numbers = evaluate(out, root)
    save_clip(model, CLIP, out, command, numbers, facts | _seconds_since(start))
    return numbers


def _seconds_since(start: float) -> dict[str, str]:
    return {PROCESSOR_SECONDS: f"{time.process_time() - start:.1f}"}
