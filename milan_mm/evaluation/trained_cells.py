"""The cells of an evaluation that train: the recipe's run, its test, and tests on other images."""

import re
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from milan_mm.configs import load, shipped_folder
from milan_mm.errors import UserError
from milan_mm.evaluation.cells import EvaluationCell
from milan_mm.evaluation.frozen.measured import share_interval
from milan_mm.evaluation.tasks import TASKS, metrics_of
from milan_mm.run.jobs import Job, run_tool
from milan_mm.run.metrics import read_metrics
from milan_mm.run.schedule.batch import split_total_batch
from milan_mm.run.start.checkpoint_files import newest

_STAMP = "%Y%m%d_%H%M%S"  # mmengine's name for the folder and the log of a start
_TIMES = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?= - )", re.MULTILINE)  # of lines of a log


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
    def earlier_seconds(self) -> float:
        """By the logs that mmengine writes of each start, a killed one too.

        They are named by the local time of the start, and end with that of their last line. The
        time of the file would be another one once it was copied.
        """
        total = 0.0
        for log in self.work_dir.glob("2*_*/2*_*.log"):
            with suppress(ValueError, OSError):  # of something else, or not readable
                started = time.mktime(time.strptime(log.stem, _STAMP))
                if times := _TIMES.findall(log.read_text("utf-8", errors="replace")):
                    ended = time.mktime(time.strptime(times[-1], "%Y/%m/%d %H:%M:%S"))
                    total += max(0.0, ended - started)
        return total

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
        kind = TASKS[self.task].data.kind
        rows = self._test("test", ["--interval"] if kind == "maps" else [])
        return self._with_intervals(rows) if self.is_of_images else rows

    def _with_intervals(self, rows: list[dict]) -> list[dict]:
        """Rows of shares of the test images."""
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
        intervals: dict[str, dict] = {}
        for metric in metrics_of(self.task, self.data):
            if metric.key not in measured and not self._is_undefined(metric.key):
                raise RuntimeError(f"{metrics} has no '{metric.key}', see {log}")
            value = measured.get(metric.key)
            if value is not None and value < 0:
                value = None  # COCO's and LVIS's -1: no object to be found
            values[metric.name] = None if value is None else round(value * metric.factor, 4)
            ends = [measured.get(f"{metric.key}_{end}") for end in ("low", "high")]
            known = [round(end * metric.factor, 4) for end in ends if end is not None]
            intervals[metric.name] = dict(interval=known) if len(known) == 2 else {}
        rows = self._rows(values, self._precision(), self.total_batch)
        return [row | intervals[row["metric"]] for row in rows]

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

    @property
    def earlier_seconds(self) -> float:
        """Those are the other cell's, too."""
        return 0.0

    def rows(self) -> list[dict]:
        """Test the last checkpoint there; see `GridCell`."""
        if not self.is_trained:
            raise RuntimeError(f"{self.title}: its training is not finished, see above")
        arguments = ["--test-set", self.variant, "--data", str(self.folder)]
        rows = self._test(f"test-{self.variant}", arguments)
        # the corruptions of a photo are no test images of their own
        return rows if self.variant == "imagenet-c" else self._with_intervals(rows)
