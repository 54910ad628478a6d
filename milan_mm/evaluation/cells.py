"""The cells of an evaluation: one encoder in one task with one seed, and the rows it gives."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from milan_mm.configs import load, shipped_folder
from milan_mm.errors import UserError
from milan_mm.evaluation.fingerprint import git_commit
from milan_mm.evaluation.frozen.extraction import Preparation
from milan_mm.evaluation.frozen.images import FrozenImages
from milan_mm.evaluation.frozen.measured import Measured, share_interval
from milan_mm.evaluation.frozen.progress import steps
from milan_mm.evaluation.frozen.protocol import FrozenProtocol
from milan_mm.evaluation.frozen.spec import Needs
from milan_mm.evaluation.recipes import Shape
from milan_mm.evaluation.results import make_rows
from milan_mm.evaluation.tasks import TASKS, metrics_of
from milan_mm.run.jobs import Job, run_tool
from milan_mm.run.metrics import read_metrics
from milan_mm.run.records.canonical import package_versions, settings_hash
from milan_mm.run.schedule.batch import split_total_batch
from milan_mm.run.start.checkpoint_files import newest
from milan_mm.weights.encoder import Encoder


@dataclass(frozen=True)
class Candidate:
    """An encoder to be judged.

    Attributes:
        method: Name of the system in tables. name, sha256: Of the file. shape: See `Shape`.
        read: What was read from the file, without its tensors.
    """

    method: str
    name: str
    sha256: str
    shape: Shape
    read: Encoder


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
        """See `milan_mm/evaluation/results.py` for the keys."""
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


@dataclass(frozen=True, kw_only=True)
class TrainedCell(EvaluationCell):
    """A training, of which the last checkpoint is tested.

    Attributes:
        config: Its file. work_dir: For logs and checkpoints.
        total_batch: As in the row.
        num_iters: Optimizer steps. recipe_gpus: That the recipe is written for.
        num_processes: Of the training, one per GPU.
        batch_per_gpu: Most images that a GPU holds at a time; None takes the recipe's number.
        trackers: Options of the training that name trackers.
    """

    config: Path
    work_dir: Path
    total_batch: int
    num_iters: int
    recipe_gpus: int
    num_processes: int = 1
    batch_per_gpu: int | None = None
    trackers: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        return newest(self.work_dir)

    @property
    def claim(self) -> str:
        """That of the training, which has a folder of its own."""
        return self.work_dir.name

    @property
    def is_of_images(self) -> bool:
        """Whether it is a classifier, which variants of ImageNet can test."""
        return TASKS[self.task].data.kind == "classes"

    @property
    def is_trained(self) -> bool:
        """Whether the last checkpoint is that of the last iteration.

        The run has written its config, in which accumulation has made the schedule longer.
        """
        if (checkpoint := self.checkpoint) is None or not self._config_as_run.is_file():
            return False
        loop = load(self._config_as_run).train_cfg
        last = f"iter_{loop.max_iters}" if "max_iters" in loop else f"epoch_{loop.max_epochs}"
        return checkpoint.stem == last

    @property
    def job(self) -> Job | None:
        """The training, from its last checkpoint on; None when it is complete.

        Raises:
            UserError: When the recipe cannot be split among the processes.
        """
        if self.is_trained:
            return None
        arguments, accumulation = ["--resume"] if self.checkpoint else [], 1
        if self._largest_batch:
            _, accumulation = split_total_batch(
                self.total_batch, self._largest_batch, self.num_processes
            )
            if self.batch_per_gpu:
                arguments += ["--batch-per-gpu", str(self._largest_batch)]
        elif self.num_processes > 1 or self.batch_per_gpu:
            raise UserError("--protocol short runs in one process, with a batch of its own")
        return Job(
            task=self.task,
            init=self.candidate.method,
            config=str(self.config),
            work_dir=self.work_dir,
            num_iters=self.num_iters * accumulation,
            arguments=[*arguments, *self.trackers],
            num_processes=self.num_processes,
        )

    def rows(self) -> list[dict]:
        """Test the last checkpoint, with test.log in the work folder; see `GridCell`."""
        rows = self._test("test", [])
        if not self.is_of_images:
            return rows
        images = self.data_counts["val"]
        spread = {row["metric"]: share_interval(row["value"], images) for row in rows}
        return [
            row | (dict(interval=list(ends)) if (ends := spread[row["metric"]]) else {})
            for row in rows
        ]

    def _test(self, name: str, arguments: list[str]) -> list[dict]:
        """Test with further arguments; log and numbers have the name."""
        log, metrics = self.work_dir / f"{name}.log", self.work_dir / name / "metrics.json"
        metrics.unlink(missing_ok=True)
        files = [self.config, self.checkpoint, "--work-dir", metrics.parent, "--out", metrics]
        tested = [*map(str, files), *arguments]
        run_tool(f"the test of {self.title}", "test.py", tested, log)
        measured = read_metrics(metrics)
        values: dict[str, float | None] = {}
        for metric in metrics_of(self.task, self.data):
            if metric.key not in measured and not self._is_undefined(metric.key):
                raise RuntimeError(f"{metrics} has no '{metric.key}', see {log}")
            value = measured.get(metric.key)
            values[metric.name] = None if value is None else round(value * metric.factor, 4)
        return self._rows(values, self._precision(), self.total_batch)

    def command(self, launcher: str, partition: str, gpus: int | None = None) -> str:
        """The line that trains it on a cluster.

        Args:
            launcher: 'slurm' or 'torchrun'. partition: Of Slurm.
            gpus: To train on; None takes the number that the recipe is written for.
        """
        tools = shipped_folder("tools")
        config, work_dir = str(self.config.resolve()), str(self.work_dir.resolve())
        if launcher == "slurm":
            words = ["bash", str(tools / "slurm_train.sh"), partition, self.work_dir.name, config]
        else:
            words = ["bash", str(tools / "dist_train.sh"), config]
        words += [str(gpus or self.recipe_gpus), "--work-dir", work_dir, "--resume"]
        if self.batch_per_gpu:
            words += ["--batch-per-gpu", str(self.batch_per_gpu)]
        words += self.trackers
        return shlex.join(words)

    @property
    def _config_as_run(self) -> Path:
        return self.work_dir / self.config.name

    def _is_undefined(self, key: str) -> bool:
        """Whether the data do not have what a metric asks for.

        That is more guesses than there are classes (top-5 of 3 classes), or masks.
        """
        if key == "coco/segm_mAP":
            head = (load(self.config).get("model") or {}).get("roi_head") or {}
            return head.get("mask_head", "as the recipe has it") is None
        guesses = key.partition("accuracy/top")[2]
        return bool(guesses) and int(guesses) > load(self.config).model.head.num_classes

    @cached_property
    def _largest_batch(self) -> int | None:
        """Most images of one process; None where the recipe states no total batch."""
        cfg: Config = load(self.config)
        if "total_batch" not in cfg:
            return None
        return min(self.batch_per_gpu or cfg.train_dataloader.batch_size, cfg.total_batch)

    def _precision(self) -> str:
        """Of the training, which may have run on another machine."""
        wrapper = load(self._config_as_run).optim_wrapper.get("type", "OptimWrapper")
        return "float32" if wrapper.rpartition(".")[2] == "OptimWrapper" else "bfloat16"


@dataclass(frozen=True, kw_only=True)
class VariantCell(TrainedCell):
    """The checkpoint of another cell, tested on a variant of ImageNet.

    Attributes:
        variant: A key of `milan_mm.datasets.variants.VARIANTS`. folder: Of its images.
    """

    variant: str
    folder: Path

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{super().title}, on {self.data}"

    @property
    def job(self) -> None:
        """The training is that of the other cell, which comes before."""

    def rows(self) -> list[dict]:
        """Test the last checkpoint there; see `GridCell`."""
        if not self.is_trained:
            raise RuntimeError(f"{self.title}: its training is not finished, see above")
        arguments = ["--test-set", self.variant, "--data", str(self.folder)]
        return self._test(f"test-{self.variant}", arguments)
