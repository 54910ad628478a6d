"""The cells of an evaluation: one encoder in one task with one seed, and the rows it gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from milan_mm.evaluation.candidates import Candidate
from milan_mm.evaluation.fingerprint import git_commit
from milan_mm.evaluation.frozen.extraction import Preparation
from milan_mm.evaluation.frozen.images import FrozenImages
from milan_mm.evaluation.frozen.measured import Measured
from milan_mm.evaluation.frozen.progress import steps
from milan_mm.evaluation.frozen.protocol import FrozenProtocol
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.row_schema import make_rows
from milan_mm.evaluation.tasks import TASKS
from milan_mm.run.jobs import Job
from milan_mm.run.records.canonical import package_versions, settings_hash


@dataclass(frozen=True, kw_only=True)
class EvaluationCell(ABC):
    """What cells with and without a training have in common.

    Attributes:
        candidate: What is judged.
        task: A key of `milan_mm.evaluation.tasks.TASKS`.
        seed: Of the run.
        recipe: Its name.
        protocol, config_hash, protocol_hash, data, data_counts, data_hash: As in the row.
    """

    candidate: Candidate
    task: str
    seed: int
    recipe: str
    protocol: str
    config_hash: str
    protocol_hash: str
    data: str
    data_counts: dict[str, int]
    data_hash: dict[str, str | None]

    @property
    @abstractmethod
    def job(self) -> Job | None:
        """The training; see `milan_mm.evaluation.grid.GridCell`."""

    @abstractmethod
    def rows(self) -> list[dict]:
        """The numbers; see `milan_mm.evaluation.grid.GridCell`."""

    @property
    def claim(self) -> str:
        """Name of its work among processes that share a folder."""
        return f"{self.task}-{settings_hash(self.identity)}"

    @property
    def earlier_seconds(self) -> float:
        """See `milan_mm.evaluation.grid.SharedCell`."""
        return 0.0

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.task} of {self.candidate.method} ({self.candidate.name}), seed {self.seed}"

    @property
    def identity(self) -> dict[str, object]:
        """The fields that identify its rows; other images are another cell."""
        return dict(
            weights_sha256=self.candidate.sha256,
            task=self.task,
            data=self.data,
            config_hash=self.config_hash,
            seed=self.seed,
            data_counts=self.data_counts,
            data_hash=self.data_hash,
        )

    def _rows(
        self,
        values: Mapping[str, float | None],
        precision: str,
        total_batch: int | None,
    ) -> list[dict]:
        """See `milan_mm/evaluation/row_schema.py` for the keys."""
        facts = self.identity | dict(
            method=self.candidate.method,
            weights=self.candidate.name,
            config=self.recipe,
            protocol=self.protocol,
            protocol_hash=self.protocol_hash,
            total_batch=total_batch,
            precision=precision,
            packages=package_versions(),
            commit=git_commit(),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return make_rows(facts, values)


@dataclass(frozen=True, kw_only=True)
class FrozenCell(EvaluationCell):
    """A protocol on frozen features, which trains no encoder.

    Attributes:
        images: Image folder. measures: The protocol.
        store: Folder of all features. preparation: Of the images.
        wanted: What is computed if its features are not there, for other protocols too.
    """

    images: Path
    measures: FrozenProtocol
    store: Path
    preparation: Preparation
    wanted: Needs

    @property
    def job(self) -> None:
        """There is no training."""

    def rows(self) -> list[dict]:
        """Find or compute the features, and measure; see `GridCell`."""
        shape = self.candidate.shape
        features = FrozenImages(
            self.candidate.read,
            self.candidate.sha256,
            self.images,
            self.data_counts,
            self.data_hash,
            self.store,
            self.preparation,
            self.measures.needs(shape),
            self.wanted,
        )
        with steps(self.task, self.measures.num_steps) as step:
            found = self.measures.measure(features, shape, step)
        features.release()
        precision = "bfloat16" if self.preparation.amp else "float32"
        rows = self._rows({m.name: None for m in TASKS[self.task].metrics}, precision, None)
        undefined = Measured(None)
        return [row | found.get(row["metric"], undefined).facts for row in rows]
