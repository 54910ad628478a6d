"""The parts of the study that can be done one by one: each gives rows, and is done once."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from milan_mm.evaluation.row_schema import make_rows
from milan_mm.photographs import frozen
from milan_mm.photographs.arms import TEACHERS
from milan_mm.photographs.models import num_heads
from milan_mm.photographs.teacher import OPTIONS, SCHEDULES
from milan_mm.run.jobs import Job

TASK = "photographs"
CURVE = "k-NN during pretraining"
_PROGRESS = re.compile(r"stage (\d+)/\d+:[^\r]*? (\d+)/\d+ \[[^\r]*loss=([0-9.]+)")
FINETUNED = "finetuned, {share} of the labels"


@dataclass
class Cell(ABC):
    """What all parts have.

    Attributes:
        arm: Of `ARMS`, or of `TEACHERS`. seed: Of its trainings.
        part: Of the study, in rows: 'teacher', 'pretraining', 'frozen', or a share of the labels.
    """

    arm: str
    seed: int
    part: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.arm} seed {self.seed}"

    @property
    def identity(self) -> dict[str, object]:
        """The fields that identify its rows."""
        return dict(task=TASK, arm=self.arm, seed=self.seed, part=self.part)

    @cached_property
    def job(self) -> Job | None:
        """Its training; None where there is none."""
        return None

    @abstractmethod
    def rows(self) -> list[dict]:
        """Its numbers, once it is trained."""


class ClipJob(Job):
    """A call of `tools/train_photographs_clip.py`, whose progress bar is its log.

    `init` is the name of a teacher.
    """

    def logged(self) -> list[dict]:
        """The step that it is at, and its loss."""
        log = self.work_dir / "output.log"
        text = log.read_text(errors="replace")[-1000:] if log.is_file() else ""
        found = _PROGRESS.findall(text)
        if not found:
            return []
        stage, steps, loss = found[-1]
        before = sum(one.steps for one in SCHEDULES[self.init][: int(stage) - 1])
        return [dict(step=before + int(steps), loss=float(loss))]


@dataclass
class TeacherCell(Cell):
    """A CLIP: trained unless its file is there, then judged on both sets of classes.

    Attributes:
        root: Of the photographs. file: Its weights.
        folder: Takes its log.
    """

    root: Path
    file: Path
    folder: Path

    @cached_property
    def job(self) -> Job | None:
        """Its training."""
        if self.file.is_file():
            return None
        return ClipJob(
            task="teacher,",
            init=self.arm,
            config="",
            work_dir=self.folder,
            num_iters=sum(stage.steps for stage in SCHEDULES[self.arm]),
            arguments=[str(self.root), *OPTIONS[self.arm], "--out", str(self.file)],
            tool="train_photographs_clip.py",
        )

    def rows(self) -> list[dict]:
        """Zero-shot and k-NN accuracy on its own classes and on the student's."""
        facts = dict(self.identity, file=str(self.file))
        is_measured = self.file.parent == self.folder.parent
        return frozen.teacher_rows(self.file, self.root, facts, is_measured)


@dataclass
class PretrainingCell(Cell):
    """A pretraining on unlabelled images; the hook of k-NN measures it after every epoch.

    Attributes:
        config: Of the arm. folder: Work directory. num_iters: Of the run.
        knn: Options of `tools/train.py` for the measurement.
    """

    config: Path
    folder: Path
    num_iters: int
    knn: list[str]

    @cached_property
    def job(self) -> Job | None:
        """Its training."""
        return Job(
            task="pretrain",
            init=self.title,
            config=str(self.config),
            work_dir=self.folder,
            num_iters=self.num_iters,
            arguments=[*self.knn, "--cfg-options", f"randomness.seed={self.seed}"],
        )

    def rows(self) -> list[dict]:
        """The curve, and the processor time of the whole run."""
        assert self.job
        curve = [
            [line["epoch"], round(line["knn/top1"], 4)]
            for line in self.job.logged()
            if "knn/top1" in line
        ]
        facts = dict(
            self.identity,
            curve=curve,
            loss=self.job.losses()[-1],
            processor_seconds=round(self.job.processor_seconds, 1),
        )
        return make_rows(facts, {CURVE: curve[-1][1]})


@dataclass
class FrozenCell(Cell):
    """k-NN and linear probe on the frozen features of an encoder.

    Attributes:
        root: Of the photographs. encoder: Its file; None draws an untrained one.
    """

    root: Path
    encoder: Path | None

    def rows(self) -> list[dict]:
        """Top-1 by each protocol and each vector of an image."""
        heads = num_heads() if self.arm in TEACHERS else None
        return frozen.student_rows(self.encoder, self.seed, self.root, self.identity, heads)


@dataclass
class FinetuningCell(Cell):
    """Finetuning on few labels.

    Attributes:
        config: Of the share. folder: Work directory. num_iters: Of the run.
        labelled: File that lists the images. encoder: Checkpoint; None starts untrained.
    """

    config: Path
    folder: Path
    num_iters: int
    labelled: Path
    encoder: Path | None

    @cached_property
    def job(self) -> Job | None:
        """Its training."""
        options: Mapping[str, object] = {
            "randomness.seed": self.seed,
            "train_dataloader.dataset.ann_file": self.labelled,
        }
        weights = ["--weights", str(self.encoder)] if self.encoder else []
        return Job(
            task=f"finetune {self.part},",
            init=self.title,
            config=str(self.config),
            work_dir=self.folder,
            num_iters=self.num_iters,
            arguments=[
                *weights,
                "--cfg-options",
                *(f"{name}={value}" for name, value in options.items()),
            ],
        )

    def rows(self) -> list[dict]:
        """Top-1 after the last epoch, in %."""
        assert self.job
        facts = dict(self.identity, processor_seconds=round(self.job.processor_seconds, 1))
        top1 = self.job.validation()["accuracy/top1"]
        return make_rows(facts, {FINETUNED.format(share=self.part): top1})
