"""The arms of the study: ways to pretrain one encoder, and the recipe of each."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.config import Config, ConfigDict

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.ablation import miniature, row_recipe

PRETRAIN = "pretrain/milan_vit-micro-p8_1xb64-coslr-3e_photographs"
DISTILLATION = "pretrain/distillation_vit-micro-p8_1xb64-coslr-3e_photographs"
FINETUNE = "cls/finetune_vit-micro-p8_1xb32-coslr-25e_photographs"
# What teachers learn from: captions of the images, captions of others, two views of each image.
CAPTIONS, SHUFFLED, VIEWS = TEACHERS = ("captions", "shuffled", "views")


@dataclass(frozen=True)
class Arm:
    """One way to come to an encoder.

    Attributes:
        name: For --arms, and in rows.
        title: In tables.
        row: Of the ablation, whose recipe at paper scale says target, decoder and sampling; None
            for what the paper's table does not have.
        teacher: Of `TEACHERS`; None without one.
    """

    name: str
    title: str
    row: int | None = None
    teacher: str | None = None

    @property
    def is_pretrained(self) -> bool:
        """Whether anything is trained before the labels are seen."""
        return self.row is not None or self.teacher is not None


_ALL = (
    Arm("scratch", "untrained"),
    Arm("mae", "MAE: pixels (row 1)", 1),
    Arm("row-2", "CLIP target, MAE decoder, uniform (row 2)", 2, CAPTIONS),
    Arm("row-7", "CLIP target, prompting decoder, uniform (row 7)", 7, CAPTIONS),
    Arm("milan", "MILAN (row 8)", 8, CAPTIONS),
    Arm("control", "MILAN, teacher with shuffled captions", 8, SHUFFLED),
    Arm("images", "MILAN, teacher of images alone", 8, VIEWS),
    Arm("distillation", "distillation without masking", None, CAPTIONS),
)
ARMS = {arm.name: arm for arm in _ALL}
# What is compared, from and to, and what changes between the two.
STEPS = {
    ("mae", "row-2"): "target: pixels to the teacher's features",
    ("row-2", "row-7"): "decoder: MAE's to prompting",
    ("row-7", "milan"): "sampling: uniform to semantic",
    ("mae", "milan"): "all three",
    ("control", "milan"): "captions: shuffled to right",
    ("images", "milan"): "captions: none to right",
    ("mae", "images"): "all three, teacher of images alone",
    ("distillation", "milan"): "masks and decoder: none to MILAN's",
    ("scratch", "control"): "a teacher of shuffled captions, from nothing",
}


def choose_arms(text: str) -> list[Arm]:
    """'mae,milan' to those arms, in the order of the table.

    Raises:
        UserError: Names one that does not exist, or none.
    """
    names = [part.strip() for part in text.split(",")]
    if unknown := [name for name in names if name not in ARMS]:
        raise UserError(
            f"--arms '{unknown[0]}' is not an arm: give some of {','.join(ARMS)}, separated by "
            "commas"
        )
    return [arm for arm in _ALL if arm.name in names]


def teachers_of(arms: Sequence[Arm]) -> list[str]:
    """Those that some arms learn from."""
    return [name for name in TEACHERS if any(arm.teacher == name for arm in arms)]


def pretraining(arm: Arm, base: Config, distillation: Config, teacher: str | None) -> Config:
    """The recipe of an arm that is pretrained.

    Args:
        base: MILAN's small recipe, with the data and the length that all arms share.
        distillation: The small recipe without masks, with the same.
        teacher: File of the arm's teacher.
    """
    cfg = copy.deepcopy(base if arm.row else distillation)
    if teacher:
        cfg.model.head.teacher.pretrained = teacher
    return miniature(load(row_recipe(arm.row)), cfg) if arm.row else cfg


def teacher_settings(base: Config, file: str) -> ConfigDict:
    """Settings of `head.teacher` for a file."""
    settings = copy.deepcopy(base.model.head.teacher)
    settings.pretrained = file
    return settings
