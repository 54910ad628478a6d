"""From weights, tasks and seeds to cells whose recipes are written and whose data are there."""

import re
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config

from milan_mm.datasets.class_folders import REMEDY
from milan_mm.datasets.identity import data_hash
from milan_mm.datasets.imagenet_variants import ImageNetVariant
from milan_mm.datasets.variants import VARIANTS, find_variant
from milan_mm.errors import MissingFileError, UserError
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
from milan_mm.evaluation.features import read_image_folder
from milan_mm.evaluation.fingerprint import data_counts, data_hashes, protocol_hash
from milan_mm.evaluation.frozen.extraction import Preparation, images_of
from milan_mm.evaluation.frozen.linear_grid import HELD_OUT
from milan_mm.evaluation.frozen.pair_sizes import check_pair_sizes
from milan_mm.evaluation.frozen.protocol import FrozenProtocol, TrainImages
from milan_mm.evaluation.frozen.regression import SmallShare
from milan_mm.evaluation.frozen.spec import union
from milan_mm.evaluation.frozen.table import PROTOCOLS, frozen, with_options
from milan_mm.evaluation.knn import check_same_classes
from milan_mm.evaluation.own_schedule import OwnSchedule
from milan_mm.evaluation.recipes import frozen_recipe, recipe, set_data
from milan_mm.evaluation.short import DATA_REMEDY, shorten, small_images
from milan_mm.evaluation.tasks import DATA_NAMES, TASKS
from milan_mm.evaluation.trained_cells import TrainedCell, VariantCell
from milan_mm.files import replacing
from milan_mm.run.checks.classes import check_classes
from milan_mm.run.checks.content import check_content
from milan_mm.run.checks.files import check_data
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.own_data import set_own_data
from milan_mm.run.own_data.classification import use_image_folder
from milan_mm.run.prepare import RECIPE, check_img_size, prepare, resize_images
from milan_mm.run.records.canonical import CHOICES, config_hash, settings_hash
from milan_mm.run.run_options import RunOptions
from milan_mm.run.schedule.schedules import is_iter_based

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass(frozen=True)
class Evaluation:
    """What all cells of one evaluation have in common.

    Attributes:
        protocol: 'paper' or 'short'.
        data: Folder with imagenet/, coco/ and ade/.
        out: Folder of the results, where recipes are written.
        images: Image folder for k-NN and classification instead of DATA/imagenet.
        det_data, seg_data, depth_data: A user's own folders instead of published ones, laid out as
            for `--data` of a training.
        notes: What was found in these two, by task; filled in by `plan`.
        num_processes: Of one training, one per GPU.
        batch_per_gpu: Most images that a GPU holds at a time; None takes the recipes' numbers.
        schedule: Another length or rate of the trainings, which makes the protocol 'own'.
        img_size: Another side of the images in pixels, which does so too.
        trackers: Options of its trainings that name trackers.
        tasks: All that are planned: features are computed once for those that read any.
        store: Folder of all frozen features; None takes OUT/features.
        shots, draws: Of few-shot protocols; None takes theirs.
        crop_pct: Of frozen tasks; None takes that of ImageNet.
        subsets: Files that list the training images of 1 % and 10 %.
    """

    protocol: str
    data: Path
    out: Path
    images: Path | None = None
    num_processes: int = 1
    batch_per_gpu: int | None = None
    schedule: OwnSchedule = field(default_factory=OwnSchedule)
    img_size: int | None = None
    det_data: Path | None = None
    seg_data: Path | None = None
    depth_data: Path | None = None
    trackers: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    store: Path | None = None
    shots: tuple[int, ...] | None = None
    draws: int | None = None
    subsets: tuple[Path, ...] = ()
    crop_pct: float | None = None
    notes: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)
    _variants: dict[str, tuple] = field(default_factory=dict, repr=False, compare=False)
    _identified: dict[str, tuple] = field(default_factory=dict, repr=False, compare=False)

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
        name, settings = frozen_recipe(task, candidate.shape, self.img_size, self.crop_pct)
        images = self._frozen_images(task)
        train, counts, hashes = self._list_images(images, task)
        protocol = self._protocols[task]
        if self.subsets and isinstance(protocol, SmallShare):
            protocol = protocol.of_lists(self.subsets, train)
        if self.protocol == "short":
            protocol = protocol.fitted(train)
        protocol.check(train)
        identity = protocol.settings | settings | dict(protocol=self.protocol)
        read, shape = candidate.read, candidate.shape
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
            data=self._data_name(task),
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
        self._set_data(cfg, task)
        if self.protocol == "short":
            shorten_data(cfg)
        datasets, num_classes = dense_data(cfg)
        counts, hashes = self._identify_data(cfg)
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
            data=self._data_name(task),
            data_counts=counts,
            data_hash=hashes,
            settings=settings,
            datasets=datasets,
            num_classes=num_classes,
        )

    @cached_property
    def _protocols(self) -> dict[str, FrozenProtocol]:
        return with_options(dict(shots=self.shots, draws=self.draws))

    def _frozen_images(self, task: str) -> Path:
        own = self._own_data(task)
        images = own or self.data / "imagenet"
        if self.protocol == "short":
            return small_images(images, self._small_data, REMEDY if own else DATA_REMEDY)
        return images

    def _list_images(
        self, images: Path, task: str
    ) -> tuple[TrainImages, dict[str, int], dict[str, str | None]]:
        """The training images, and counts and hashes by split; each folder is listed once.

        Raises:
            MissingFileError, UserError: When they are not there, or a class has none in train/.
        """
        if str(images) not in self._identified:
            try:
                train, val = (read_image_folder(images, s, 1, 1.0) for s in ("train", "val"))
            except FileNotFoundError as error:
                remedy = REMEDY if self._own_data(task) else DATA_REMEDY
                raise _data_are_missing(error, remedy) from None
            check_same_classes(train, val)
            listed = images_of(train)
            known = TrainImages(
                train.img_prefix,
                torch.tensor(listed.labels),
                tuple(listed.classes),
                tuple(listed.names),
            )
            sets = dict(train=train, val=val)
            counts = {split: len(data) for split, data in sets.items()}
            hashes = {s: data_hash(dict(data_root=d.img_prefix)) for s, d in sets.items()}
            self._identified[str(images)] = known, counts, hashes
        return self._identified[str(images)]

    def _plan_training(self, candidate: Candidate, task: str, seed: int) -> TrainedCell:
        name, cfg = recipe(task, candidate.shape)
        gpus = cfg.get("gpus", 8)
        sized = RunOptions(img_size=self.img_size, weights=candidate.read)
        resize_images(cfg, sized)
        self._set_data(cfg, task)
        is_short = self.protocol == "short"
        if is_short:
            prepare(cfg, RunOptions(shorten=lambda cfg, _: self._shorten(cfg, task)), RECIPE)
        prepare(cfg, self.schedule.options_for(task), RECIPE)
        protocol_id = protocol_hash(cfg)  # before the encoder brings options of its own
        prepare(cfg, RunOptions(weights=candidate.read), RECIPE)
        check_img_size(cfg, sized)
        cfg.setdefault("randomness", {})["seed"] = seed
        config_id, (counts, hashes) = config_hash(cfg), self._identify_data(cfg)
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
            data=self._data_name(task),
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

    def _identify_data(self, cfg: Config) -> tuple[dict[str, int], dict[str, str | None]]:
        """Counts and hashes by split; each data set is listed once for all cells."""
        sets = [dict(d, pipeline=None) for name in _LOADERS[:2] for _, d in datasets_of(cfg, name)]
        key = settings_hash(sets)
        if key not in self._identified:
            self._identified[key] = data_counts(cfg), data_hashes(cfg)
        return self._identified[key]

    @property
    def _trained_protocol(self) -> str:
        is_own = self.schedule or (self.img_size and self.protocol == "paper")
        return "own" if is_own else self.protocol

    @property
    def _small_data(self) -> Path:
        return self.out / "short"

    def _data_name(self, task: str) -> str:
        """That of a published data set, or of a folder; a folder never has the former's name."""
        own = self._own_data(task)
        if own is None:
            return TASKS[task].data.name
        name = own.absolute().name
        return f"{name} (own)" if name in DATA_NAMES else name

    def _own_data(self, task: str) -> Path | None:
        """The user's own folder for a task; None where the published data are used."""
        folder, layout = {
            "classes": (self.images, "train/CLASS/* and val/CLASS/*"),
            "boxes": (self.det_data, "COCO files, as for tools/train.py --data"),
            "maps": (self.seg_data, "images, annotations and a classes.txt"),
            "depths": (self.depth_data, "images and depth maps"),
        }[TASKS[task].data.kind]
        if folder is not None and not folder.is_dir():
            raise MissingFileError(
                f"image folder '{folder}' does not exist: give a folder with {layout}"
            )
        return folder

    def _set_data(self, cfg: Config, task: str) -> None:
        """Let a recipe read the data of this evaluation, which must be there."""
        set_data(cfg, self.data)
        own = self._own_data(task)
        if own and TASKS[task].data.kind == "classes":
            if self.protocol == "short":
                own = small_images(own, self._small_data, REMEDY)
            use_image_folder(cfg, own)
        elif own:
            is_new = task not in self.notes
            found = set_own_data(cfg, str(own))
            if is_new:  # what the training would refuse, before other cells have run for hours
                check_content(cfg, _LOADERS)
                said = {note.partition(": ")[2] for notes in self.notes.values() for note in notes}
                lines = [note.removeprefix(f"--data {own}: ") for note in found]
                self.notes[task] = [f"{task}: {line}" for line in lines if line not in said]
        try:
            check_data(cfg, _LOADERS)
            if self.protocol != "short":  # which takes the classes that both splits have
                check_classes(cfg, _LOADERS)
        except MissingFileError as error:
            raise _data_are_missing(error) from None

    def _shorten(self, cfg: Config, task: str) -> list[str]:
        shorten(cfg, task, self._small_data)
        return []

    def _folder_name(self, candidate: Candidate, task: str, seed: int, identity: str) -> str:
        parts = [task, self._trained_protocol, candidate.sha256[:8], identity[:8]]
        if (name := self._data_name(task)) != TASKS[task].data.name:
            parts.append(re.sub(r"\W", "-", name))
        return "_".join([*parts, f"seed{seed}"])


def _iterations(cfg: Config, num_train: int, total_batch: int) -> int:
    """Optimizer steps of a training."""
    if is_iter_based(cfg):
        return cfg.train_cfg.max_iters
    batches = cfg.train_dataloader.get("num_batch_per_epoch") or num_train // total_batch
    return cfg.train_cfg.max_epochs * batches


def _data_are_missing(error: FileNotFoundError, remedy: str = DATA_REMEDY) -> MissingFileError:
    """Replace the remedy in the message by one that fits this tool's options."""
    what = str(error).partition(": ")[0]
    return MissingFileError(f"{what}: {remedy}")
