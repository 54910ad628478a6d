"""From weights, tasks and seeds to cells whose recipes are written and whose data are there."""

import re
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config

from milan_mm.datasets.identity import data_hash
from milan_mm.datasets.imagenet_variants import ImageNetVariant
from milan_mm.datasets.variants import VARIANTS, find_variant
from milan_mm.errors import UserError
from milan_mm.evaluation.candidates import Candidate
from milan_mm.evaluation.cells import EvaluationCell, FrozenCell
from milan_mm.evaluation.dense_cell import DenseCell
from milan_mm.evaluation.dense_recipe import (
    CLASSIFIERS,
    check_enough,
    dense_data,
    dense_recipe,
    shorten_data,
)
from milan_mm.evaluation.evaluation_data import EvaluationData
from milan_mm.evaluation.fingerprint import protocol_hash
from milan_mm.evaluation.frozen.extraction import Preparation
from milan_mm.evaluation.frozen.linear_grid import HELD_OUT
from milan_mm.evaluation.frozen.pair_sizes import check_pair_sizes
from milan_mm.evaluation.frozen.protocol import FrozenProtocol
from milan_mm.evaluation.frozen.regression import SmallShare
from milan_mm.evaluation.frozen.spec import union
from milan_mm.evaluation.frozen.table import PROTOCOLS, frozen, with_options
from milan_mm.evaluation.own_schedule import OwnSchedule
from milan_mm.evaluation.recipes import frozen_recipe, recipe
from milan_mm.evaluation.tasks import TASKS
from milan_mm.evaluation.trained_cells import TrainedCell, VariantCell
from milan_mm.files import replacing
from milan_mm.run.prepare import RECIPE, check_img_size, prepare, resize_images
from milan_mm.run.records.canonical import CHOICES, config_hash, settings_hash
from milan_mm.run.run_options import RunOptions
from milan_mm.run.schedule.schedules import is_iter_based


@dataclass(frozen=True, kw_only=True)
class Evaluation(EvaluationData):
    """What all cells of one evaluation have in common; recipes are written to OUT/configs.

    Attributes:
        num_processes: Of one training, one per GPU.
        batch_per_gpu: Most images that a GPU holds at a time; None takes the recipes' numbers.
        schedule: Another length or rate of the trainings, which makes the protocol 'own'.
        img_size: Another side of the images in pixels, which does so too.
        trackers: Options of its trainings that name trackers.
        tasks: All that are planned: features are computed once for those that read any.
        store: Folder of all frozen features; None takes OUT/features.
        shots, draws: Of few-shot protocols; None takes theirs.
        pooling: Of protocols that read one vector of each image; None takes `usual_pooling`.
        crop_pct: Of frozen tasks; None takes that of ImageNet.
        subsets: Files that list the training images of 1 % and 10 %.
    """

    num_processes: int = 1
    batch_per_gpu: int | None = None
    schedule: OwnSchedule = field(default_factory=OwnSchedule)
    img_size: int | None = None
    trackers: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    store: Path | None = None
    shots: tuple[int, ...] | None = None
    draws: int | None = None
    pooling: str | None = None
    subsets: tuple[Path, ...] = ()
    crop_pct: float | None = None
    _variants: dict[str, tuple] = field(default_factory=dict, repr=False, compare=False)

    def plan(self, candidate: Candidate, task: str, seed: int) -> EvaluationCell:
        """Prepare a cell: its data are looked for, and its recipe is written to OUT/configs.

        Raises:
            MissingFileError, UserError: When no recipe fits, or the data are not there.
        """
        if task in PROTOCOLS:
            return self._plan_frozen(candidate, task, seed)
        if task in CLASSIFIERS:
            return self._plan_dense(candidate, task, seed)
        return self._plan_training(candidate, task, seed)

    def plan_variant(self, trained: TrainedCell, variant: str) -> VariantCell:
        """Prepare the test of a cell's checkpoint on a variant of ImageNet.

        Raises:
            MissingFileError, UserError: When its images are not there, or in another layout.
        """
        if variant not in self._variants:
            folder = find_variant(variant, self.data)
            images = ImageNetVariant(variant, str(folder), serialize_data=False)
            hashed = data_hash(dict(data_root=str(folder)))
            self._variants[variant] = folder, len(images), hashed
        folder, number, hashed = self._variants[variant]
        known = {field.name: getattr(trained, field.name) for field in fields(trained)}
        return VariantCell(
            **known
            | dict(
                data=VARIANTS[variant].title,
                data_counts=dict(trained.data_counts, val=number),
                data_hash=dict(trained.data_hash, val=hashed),
                variant=variant,
                folder=folder,
            )
        )

    def _plan_frozen(self, candidate: Candidate, task: str, seed: int) -> FrozenCell:
        read, shape, protocol = candidate.read, candidate.shape, self._protocols[task]
        protocol.needs(shape).check(shape, candidate.name)
        feature = protocol.feature(shape)
        name, settings = frozen_recipe(task, shape, feature, self.img_size, self.crop_pct)
        images = self.frozen_images(task)
        train, counts, hashes = self.list_images(images, task)
        if self.subsets and isinstance(protocol, SmallShare):
            protocol = protocol.of_lists(self.subsets, train)
        if self.protocol == "short":
            protocol = protocol.fitted(train)
        protocol.check(train)
        identity = protocol.settings | settings | dict(protocol=self.protocol)
        chosen = {key: read.options.get(key) for key in CHOICES}
        others = [self._protocols[name].needs(shape) for name in frozen({*self.tasks, task})]
        return FrozenCell(
            candidate=candidate,
            task=task,
            seed=seed,
            recipe=name,
            protocol=self.protocol,
            config_hash=settings_hash([identity, read.settings, read.stats, chosen]),
            protocol_hash=settings_hash(identity),
            data=self.data_name(task),
            data_counts=counts,
            data_hash=hashes,
            images=images,
            measures=protocol.seeded(seed),
            store=self.store or self.out / "features",
            preparation=Preparation(
                settings["img_size"], settings["crop_pct"], amp=torch.cuda.is_available()
            ),
            wanted=union(others),
        )

    def _plan_dense(self, candidate: Candidate, task: str, seed: int) -> DenseCell:
        name, settings, cfg = dense_recipe(task, candidate.shape, self.img_size)
        self.set_data(cfg, task)
        if self.protocol == "short":
            shorten_data(cfg)
        datasets, num_classes = dense_data(cfg)
        counts, hashes = self.identify_data(cfg)
        check_enough(task, counts)
        for data in datasets.values():
            if (key := f"sizes {settings_hash(data)}") not in self._identified:
                check_pair_sizes(data)
                self._identified[key] = ()
        identity = asdict(settings) | dict(protocol=self.protocol, held=HELD_OUT)
        read = candidate.read
        chosen = {key: read.options.get(key) for key in CHOICES}
        return DenseCell(
            candidate=candidate,
            task=task,
            seed=seed,
            recipe=name,
            protocol=self.protocol,
            config_hash=settings_hash([identity, read.settings, read.stats, chosen]),
            protocol_hash=settings_hash(identity),
            data=self.data_name(task),
            data_counts=counts,
            data_hash=hashes,
            settings=settings,
            datasets=datasets,
            num_classes=num_classes,
        )

    @cached_property
    def _protocols(self) -> dict[str, FrozenProtocol]:
        return with_options(dict(shots=self.shots, draws=self.draws, pooling=self.pooling))

    def _plan_training(self, candidate: Candidate, task: str, seed: int) -> TrainedCell:
        name, cfg = recipe(task, candidate.shape)
        gpus = cfg.get("gpus", 8)
        sized = RunOptions(img_size=self.img_size, weights=candidate.read)
        resize_images(cfg, sized)
        self.set_data(cfg, task)
        is_short = self.protocol == "short"
        if is_short:
            prepare(cfg, RunOptions(shorten=lambda cfg, _: self.shorten(cfg, task)), RECIPE)
        prepare(cfg, self.schedule.options_for(task), RECIPE)
        protocol_id = protocol_hash(cfg)  # before the encoder brings options of its own
        prepare(cfg, RunOptions(weights=candidate.read), RECIPE)
        check_img_size(cfg, sized)
        cfg.setdefault("randomness", {})["seed"] = seed
        config_id, (counts, hashes) = config_hash(cfg), self.identify_data(cfg)
        total_batch = cfg.get("total_batch") or cfg.train_dataloader.batch_size
        if counts["train"] < total_batch:
            raise UserError(
                f"{task}: {counts['train']} training images make no update of {total_batch}: take "
                "more images, --protocol short, or tools/train.py with a smaller total batch"
            )
        # a changed recipe, or other images, never goes on from another training's files
        identity = settings_hash([config_id, counts, hashes])
        folder = self._folder_name(candidate, task, seed, identity)
        config = self.out / "configs" / f"{folder}.py"
        with replacing(config, durable=False) as partial:  # another process may be reading it
            partial.write_text(cfg.pretty_text)
        return TrainedCell(
            candidate=candidate,
            task=task,
            seed=seed,
            recipe=name,
            protocol=self._trained_protocol,
            config_hash=config_id,
            protocol_hash=protocol_id,
            data=self.data_name(task),
            data_counts=counts,
            data_hash=hashes,
            config=config,
            work_dir=self.out / folder,
            total_batch=total_batch,
            num_iters=_iterations(cfg, counts["train"], total_batch),
            recipe_gpus=1 if is_short else gpus,
            num_processes=self.num_processes,
            batch_per_gpu=self.batch_per_gpu,
            trackers=self.trackers,
        )

    @property
    def _trained_protocol(self) -> str:
        is_own = self.schedule or (self.img_size and self.protocol == "paper")
        return "own" if is_own else self.protocol

    def _folder_name(self, candidate: Candidate, task: str, seed: int, identity: str) -> str:
        parts = [task, self._trained_protocol, candidate.sha256[:8], identity[:8]]
        if (name := self.data_name(task)) != TASKS[task].data.name:
            parts.append(re.sub(r"\W", "-", name))
        return "_".join([*parts, f"seed{seed}"])


def _iterations(cfg: Config, num_train: int, total_batch: int) -> int:
    """Optimizer steps of a training."""
    if is_iter_based(cfg):
        return cfg.train_cfg.max_iters
    batches = cfg.train_dataloader.get("num_batch_per_epoch") or num_train // total_batch
    return cfg.train_cfg.max_epochs * batches
