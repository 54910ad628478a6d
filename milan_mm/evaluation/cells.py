"""Weights x tasks x seeds: what is to be run, how, and the rows that come out."""

import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from milan_mm.configs import load, shipped_folder
from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.fingerprint import (
    CHOICES,
    config_hash,
    data_counts,
    git_commit,
    package_versions,
    protocol_hash,
    settings_hash,
)
from milan_mm.evaluation.recipes import MEASURES, Shape, knn_settings, recipe, set_data
from milan_mm.evaluation.results import DATA, read_rows
from milan_mm.evaluation.short import shorten, small_images
from milan_mm.run.batch import split_total_batch
from milan_mm.run.checks.files import check_data
from milan_mm.run.encoder_weights import set_encoder_weights
from milan_mm.run.jobs import Job
from milan_mm.run.own_data.classification import use_image_folder
from milan_mm.run.schedules import is_iter_based
from milan_mm.weights.encoder import Encoder as ReadEncoder
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder

_SPLITS = ("train", "val")
_NUMBER = re.compile(r"^(\S+): (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Encoder:
    """Weights to be judged.

    Attributes:
        method: Name of the system in tables. name, sha256: Of the file. shape: See `Shape`.
        read: What was read from the file, without its tensors.
    """

    method: str
    name: str
    sha256: str
    shape: Shape
    read: ReadEncoder


@dataclass(frozen=True)
class Cell:
    """One encoder in one task with one seed.

    Attributes:
        encoder: What is judged.
        task: A key of `milan_mm.evaluation.results.TASKS`.
        seed: Of the run.
        name: Of the recipe. config: Its file, None for k-NN.
        work_dir: For logs and checkpoints.
        config_hash, protocol_hash, total_batch, precision, data, data_counts, protocol: As in the
            row; precision is None where the run will tell it, see `as_run`.
        num_iters: Optimizer steps of the training. gpus: That the recipe is written for.
        settings: Of k-NN. images: Image folder of k-NN.
    """

    encoder: Encoder
    task: str
    seed: int
    name: str
    config: Path | None
    work_dir: Path
    config_hash: str
    protocol_hash: str
    protocol: str
    total_batch: int | None
    precision: str | None
    data: str
    data_counts: dict[str, int]
    num_iters: int
    gpus: int
    settings: dict[str, Any] | None = None
    images: Path | None = None

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.task} of {self.encoder.method} ({self.encoder.name}), seed {self.seed}"

    @property
    def is_trained(self) -> bool:
        """Whether the last checkpoint is that of the last iteration.

        The run has written its config, where accumulation has made the schedule longer.
        """
        assert self.config
        as_run = self.work_dir / self.config.name
        if self.checkpoint is None or not as_run.is_file():
            return False
        loop = load(as_run).train_cfg
        last = f"iter_{loop.max_iters}" if "max_iters" in loop else f"epoch_{loop.max_epochs}"
        return self.checkpoint.is_file() and self.checkpoint.stem == last

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint, if there is one."""
        file = self.work_dir / "last_checkpoint"
        return Path(file.read_text().strip()) if file.is_file() else None

    def is_in(self, rows: Iterable[Mapping]) -> bool:
        """Whether a row of a results file is this cell's, made with as many images."""
        own = dict(
            weights_sha256=self.encoder.sha256,
            task=self.task,
            data=self.data,
            config_hash=self.config_hash,
            seed=self.seed,
            data_counts=self.data_counts,
        )
        return any(all(row.get(key) == value for key, value in own.items()) for row in rows)


def read_encoders(
    weights: Iterable[str], methods: Iterable[str] | None, **options: Any
) -> list[Encoder]:
    """Look at every weights file.

    Args:
        methods: A name for each; None takes the systems that the files are taken for.
        options: Of `read_encoder`, for all of them.

    Raises:
        MissingFileError, UserError: For a file that cannot be used, and for numbers of names and
            files that differ.
    """
    paths = list(weights)
    names = list(methods) if methods is not None else [None] * len(paths)
    if len(names) != len(paths):
        raise UserError(f"--method names {len(names)} systems, --weights {len(paths)} files")
    encoders = []
    for name, path in zip(names, paths, strict=True):
        read = read_encoder(path, **options)
        sha256, shape = file_sha256(read.source), Shape.of(read)
        read = replace(read, state_dict={})  # hundreds of MB
        encoders.append(Encoder(name or read.system, Path(path).name, sha256, shape, read))
    if len({encoder.sha256 for encoder in encoders}) < len(encoders):
        raise UserError("--weights holds a file twice: give each once")
    return encoders


def plan_cell(
    encoder: Encoder,
    task: str,
    seed: int,
    protocol: str,
    data: Path,
    out: Path,
    images: Path | None = None,
) -> Cell:
    """Prepare a cell: its recipe is written to OUT/configs, its data are looked for.

    Args:
        data: With imagenet/, coco/ and ade/.
        images: Image folder for k-NN and classification instead of DATA/imagenet.

    Raises:
        MissingFileError, UserError: When no recipe fits, or the data are not there.
    """
    common: dict[str, Any] = dict(encoder=encoder, task=task, seed=seed, protocol=protocol)
    common["data"] = DATA[task]
    if images and common["data"] == "ImageNet":
        if not images.is_dir():
            raise MissingFileError(
                f"image folder '{images}' does not exist: give --images a folder with "
                "train/CLASS/* and val/CLASS/*"
            )
        common["data"] = images.absolute().name
        if protocol == "short":
            images = small_images(images, out / "short")
    if task == "knn":
        return _plan_knn(common, images or data / "imagenet", out)
    name, cfg = recipe(task, encoder.shape)
    set_data(cfg, data)
    if images and DATA[task] == "ImageNet":
        use_image_folder(cfg, images)
    try:
        check_data(cfg, ("train_dataloader", "val_dataloader", "test_dataloader"))
    except MissingFileError as error:
        raise _data_are_missing(error) from None
    gpus = cfg.get("gpus", 8)
    if protocol == "short":
        shorten(cfg, task, out / "short")
        gpus = 1
    protocol_id = protocol_hash(cfg)  # before the encoder brings options of its own
    set_encoder_weights(cfg, encoder.read)
    cfg.setdefault("randomness", {})["seed"] = seed
    own, counts = config_hash(cfg), data_counts(cfg)
    # more images are another training
    work_dir = _work_dir(out, common, settings_hash([own, counts]))
    config = out / "configs" / f"{work_dir.name}.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(config)
    batch = cfg.get("total_batch") or cfg.train_dataloader.batch_size
    if is_iter_based(cfg):
        num_iters = cfg.train_cfg.max_iters
    else:
        batches = cfg.train_dataloader.get("num_batch_per_epoch") or counts["train"] // batch
        num_iters = cfg.train_cfg.max_epochs * batches
    return Cell(
        **common,
        config_hash=own,
        protocol_hash=protocol_id,
        name=name,
        config=config,
        work_dir=work_dir,
        total_batch=batch,
        precision=None,
        data_counts=counts,
        num_iters=num_iters,
        gpus=gpus,
    )


def _data_are_missing(error: FileNotFoundError) -> FileNotFoundError:
    """The same error, whose remedy is an option of other tools, with that of this one."""
    what = str(error).partition(": ")[0]
    return FileNotFoundError(f"{what}: link or unpack the data there, or pass --data ROOT")


def _work_dir(out: Path, common: dict, identity: str) -> Path:
    """A folder of its own for each cell: a changed recipe never goes on from another's files."""
    parts = [common["task"], common["protocol"], common["encoder"].sha256[:8], identity[:8]]
    if common["data"] != DATA[common["task"]]:
        parts.append(re.sub(r"\W", "-", common["data"]))
    return out / "_".join([*parts, f"seed{common['seed']}"])


def _plan_knn(common: dict, images: Path, out: Path) -> Cell:
    encoder: Encoder = common["encoder"]
    name, settings = knn_settings(encoder.shape)
    if common["protocol"] == "short":
        images = small_images(images, out / "short")
    size = settings["img_size"], settings["crop_pct"]
    try:
        counts = {split: len(read_image_folder(images, split, *size)) for split in _SPLITS}
    except FileNotFoundError as error:
        raise _data_are_missing(error) from None
    identity = settings | dict(protocol=common["protocol"])
    read = encoder.read
    chosen = {key: read.options.get(key) for key in CHOICES}
    own = settings_hash([identity, read.settings, read.stats, chosen])
    return Cell(
        **common,
        name=name,
        config=None,
        work_dir=_work_dir(out, common, own),
        config_hash=own,
        protocol_hash=settings_hash(identity),
        total_batch=None,
        precision="bfloat16" if torch.cuda.is_available() else "float32",
        data_counts=counts,
        num_iters=0,
        gpus=1,
        settings=settings,
        images=images,
    )


def training_job(cell: Cell, num_processes: int, batch_per_gpu: int | None = None) -> Job:
    """The training of a cell; it goes on from its last checkpoint.

    Args:
        num_processes: One per GPU.
        batch_per_gpu: Most images that a GPU holds at once; None takes the recipe's number.

    Raises:
        UserError: When the recipe cannot be split among these processes.
    """
    assert cell.config
    cfg = load(cell.config)
    arguments = ["--resume"] if cell.checkpoint else []
    accumulation = 1
    if "total_batch" in cfg:
        largest = min(batch_per_gpu or cfg.train_dataloader.batch_size, cfg.total_batch)
        _, accumulation = split_total_batch(cfg.total_batch, largest, num_processes)
        if batch_per_gpu:
            arguments += ["--batch-per-gpu", str(largest)]
    elif num_processes > 1 or batch_per_gpu:
        raise UserError("--protocol short runs in one process, with a batch of its own")
    return Job(
        task=cell.task,
        init=cell.encoder.method,
        config=str(cell.config),
        work_dir=cell.work_dir,
        num_iters=cell.num_iters * accumulation,
        arguments=arguments,
        num_processes=num_processes,
    )


def commands(cell: Cell, launcher: str, partition: str) -> str:
    """The line that trains a cell on a cluster, with the GPUs that its recipe is written for.

    Args:
        launcher: 'slurm' or 'torchrun'. partition: Of Slurm.
    """
    tools = shipped_folder("tools")
    assert cell.config
    config, work_dir = str(cell.config.resolve()), str(cell.work_dir.resolve())
    if launcher == "slurm":
        words = ["bash", str(tools / "slurm_train.sh"), partition, cell.work_dir.name, config]
    else:
        words = ["bash", str(tools / "dist_train.sh"), config]
    words += [str(cell.gpus), "--work-dir", work_dir, "--resume"]
    return shlex.join(words)


def measure(cell: Cell) -> dict[str, float | None]:
    """Run the test or the vote of a cell in a process of its own; its output goes to a log.

    Returns:
        Values in % by metric; None where the tool found no number (nan).

    Raises:
        RuntimeError: When the process failed, with its last lines, or printed no such metric.
    """
    if cell.task == "knn":
        return _vote(cell)
    output = _run(cell, "test.py", [str(cell.config), str(cell.checkpoint)], "test.log")
    printed = dict(_NUMBER.findall(output))
    values = {}
    for key, (metric, factor) in MEASURES[cell.task].items():
        if key not in printed:
            raise RuntimeError(f"test.py printed no {key}, see {cell.work_dir / 'test.log'}")
        value = float(printed[key]) * factor
        values[metric] = None if math.isnan(value) else round(value, 4)
    return values


def _vote(cell: Cell) -> dict[str, float | None]:
    assert cell.settings
    results = cell.work_dir / "knn.jsonl"
    results.unlink(missing_ok=True)
    read = cell.encoder.read
    options = dict(weights=read.source, data=cell.images, out=results)
    options |= cell.settings | read.options | dict(amp=cell.precision == "bfloat16")
    words = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] * (value is True) if isinstance(value, bool) else [flag, str(value)]
    _run(cell, "knn.py", words, "knn.log")
    return {row["metric"]: round(row["value"], 4) for row in read_rows(results)}


def _run(cell: Cell, tool: str, arguments: list[str], log: str) -> str:
    cell.work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(shipped_folder("tools") / tool), *arguments]
    if tool == "test.py":
        command += ["--work-dir", str(cell.work_dir / "test")]
    file = cell.work_dir / log
    with file.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ)
    text = file.read_text(errors="replace")
    if done.returncode:
        tail = "\n".join(text.splitlines()[-5:])
        raise RuntimeError(
            f"{cell.title}: {tool} failed with exit code {done.returncode}, see {file}; it ended "
            f"with:\n{tail or '(nothing)'}"
        )
    return text


def as_run(cell: Cell) -> Cell:
    """A cell with what its run alone tells, which may have been on another machine."""
    if cell.config is None:
        return cell
    wrapper = load(cell.work_dir / cell.config.name).optim_wrapper
    is_mixed = wrapper.get("type", "OptimWrapper").rpartition(".")[2] != "OptimWrapper"
    return replace(cell, precision="bfloat16" if is_mixed else "float32")


def result_rows(cell: Cell, values: Mapping[str, float | None], seconds: float) -> list[dict]:
    """The rows of a finished cell, see `milan_mm/evaluation/results.py`."""
    cell = as_run(cell)
    facts = dict(
        task=cell.task,
        method=cell.encoder.method,
        weights=cell.encoder.name,
        weights_sha256=cell.encoder.sha256,
        config=cell.name,
        config_hash=cell.config_hash,
        protocol=cell.protocol,
        protocol_hash=cell.protocol_hash,
        total_batch=cell.total_batch,
        precision=cell.precision,
        seed=cell.seed,
        data=cell.data,
        packages=package_versions(),
        data_counts=cell.data_counts,
        commit=git_commit(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
    )
    return [dict(metric=metric, value=value) | facts for metric, value in values.items()]
