"""From the options of the study to its parts: everything is checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.datasets.folders import EXTENSIONS
from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.ablation import (
    images_by_class,
    limit_warm_up,
    row_recipe,
    set_epochs,
)
from milan_mm.evaluation.study import (
    check_count,
    check_updates,
    enter_folder,
    fingerprint,
    iterations,
)
from milan_mm.files import write_whole
from milan_mm.photographs.arms import (
    CAPTIONS,
    DISTILLATION,
    FINETUNE,
    PRETRAIN,
    SHUFFLED,
    VIEWS,
    Arm,
    pretraining,
    teacher_settings,
    teachers_of,
)
from milan_mm.photographs.cells import (
    Cell,
    FinetuningCell,
    FrozenCell,
    PretrainingCell,
    TeacherCell,
)
from milan_mm.photographs.data import SPLITS, read_classes
from milan_mm.photographs.labelled import SHARES, labelled_lists
from milan_mm.registry import MODELS
from milan_mm.weights.reading import file_sha256

# Of tools/photographs.py, for a finished teacher.
FILE_OPTIONS = {CAPTIONS: "--teacher", SHUFFLED: "--control", VIEWS: "--image-teacher"}
CURVE_IMAGES = 2000  # of each split, for the k-NN after every epoch
EPOCHS_WITH_10 = 0.2  # of those with 1 % of the labels: there are ten times as many images


@dataclass(frozen=True)
class Wishes:
    """What a user asks for.

    Attributes:
        root: Of the photographs, unpacked. out: Folder of the results.
        arms: In the order of the table. seeds: How many.
        epochs, finetune_epochs: None takes those of the recipes.
        teachers: File of a finished teacher, by name; others are trained.
        fresh: Start over.
    """

    root: Path
    out: Path
    arms: Sequence[Arm]
    seeds: int = 3
    epochs: int | None = None
    finetune_epochs: int | None = None
    teachers: dict[str, Path] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True)
class Plan:
    """The parts of the study, in the order of its steps.

    Attributes:
        settings: What all of its numbers depend on.
    """

    wishes: Wishes
    settings: dict[str, object]
    teachers: Sequence[TeacherCell]
    pretrainings: Sequence[Cell]
    frozen: Sequence[Cell]
    finetunings: Sequence[Cell]

    @property
    def steps(self) -> dict[str, Sequence[Cell]]:
        """By title."""
        return {
            "teachers": self.teachers,
            "pretraining": self.pretrainings,
            "frozen features": self.frozen,
            "finetuning on few labels": self.finetunings,
        }

    @property
    def teacher_files(self) -> dict[str, Path]:
        """Those that are finished, by name."""
        found = {cell.arm: cell.file for cell in self.teachers}
        return {name: file for name, file in found.items() if file.is_file()}

    def checkpoint(self, arm: str, seed: int) -> Path:
        """Of a finished pretraining."""
        return (
            run_folder(self.wishes.out, arm, seed) / f"pretrain/epoch_{self.settings['epochs']}.pth"
        )


def run_folder(out: Path, arm: str, seed: int) -> Path:
    """Of all trainings of an arm with a seed."""
    return out / f"runs/{arm}_seed-{seed}"


def prepare(wishes: Wishes) -> Plan:
    """Check photographs, teachers and the results folder, then write recipes and lists into it.

    Raises:
        MissingFileError, UserError: For what cannot be run; the folder is then as it was.
    """
    out, root = wishes.out, wishes.root
    read_classes(root)
    images, num_val = images_by_class(root / "student")
    num_train = sum(map(len, images.values()))
    base, distillation = (load(name) for name in (PRETRAIN, DISTILLATION))
    needed = teachers_of(wishes.arms)
    files = {name: out / f"teachers/{name}.safetensors" for name in needed}
    for name, file in wishes.teachers.items():
        if name not in needed:
            raise UserError(
                f"{FILE_OPTIONS[name]} is given, and no arm of --arms learns from it: leave it out"
            )
        _check_teacher(base, file)
        files[name] = file
    shared = base, distillation, load(FINETUNE)
    hashes: dict[str, object] = {
        f"recipes of {arm.name}": fingerprint(
            *shared, *([load(row_recipe(arm.row))] if arm.row else [])
        )
        for arm in wishes.arms
    }
    for cfg in (base, distillation):
        _shape(cfg, root, wishes.epochs, num_train)
    check_count(num_train, base, f"training images in {root / 'student/train'}", "add images")
    check_updates(iterations(base, num_train), "--epochs")

    lists = [labelled_lists(images, seed) for seed in range(wishes.seeds)]
    finetunings = {}
    for share in SHARES:
        cfg = load(FINETUNE)
        count = len(lists[0][share])
        epochs = wishes.finetune_epochs or cfg.train_cfg.max_epochs
        if share == "10 %":
            epochs = max(1, round(EPOCHS_WITH_10 * epochs))
        _shape(cfg, root, epochs, count)
        cfg.model.head.num_classes = len(images)
        check_count(count, cfg, f"labelled images ({share} of {num_train})", "add images")
        check_updates(iterations(cfg, count), "--finetune-epochs")
        finetunings[share] = cfg, iterations(cfg, count)

    settings: dict[str, object] = dict(
        data=str(root.resolve()),
        images=[num_train, num_val],
        epochs=base.train_cfg.max_epochs,
        finetune_epochs=[cfg.train_cfg.max_epochs for cfg, _ in finetunings.values()],
    )
    settings |= hashes
    for name in needed:
        given = wishes.teachers.get(name)
        settings[f"teacher of {name}"] = file_sha256(given)[:12] if given else "trained here"
    enter_folder(out, settings, wishes.fresh, "a study of photographs")
    return _write(wishes, settings, base, distillation, finetunings, files, lists, num_train)


def _shape(cfg: Config, root: Path, epochs: int | None, num_images: int) -> None:
    """Data and length of a small recipe, in place."""
    if epochs:
        set_epochs(cfg, epochs)
    for split in SPLITS:
        if f"{split}_dataloader" in cfg:
            cfg[f"{split}_dataloader"].dataset.update(
                data_root=str(root / "student"), data_prefix=split, extensions=EXTENSIONS
            )
    limit_warm_up(cfg, iterations(cfg, num_images))


def _check_teacher(base: Config, file: Path) -> None:
    """Refuse a file that is not a CLIP of the size and patch grid of the recipes."""
    from milan_mm.photographs.models import load as load_clip

    if not file.is_file():
        raise MissingFileError(
            f"teacher '{file}' does not exist: tools/train_photographs_clip.py writes one, and "
            "without the option it is trained here"
        )
    load_clip(file)
    MODELS.build(teacher_settings(base, str(file)))


def _write(
    wishes: Wishes,
    settings: dict[str, object],
    base: Config,
    distillation: Config,
    finetunings: dict[str, tuple[Config, int]],
    files: dict[str, Path],
    lists: Sequence[dict[str, list[str]]],
    num_train: int,
) -> Plan:
    out, root, seeds = wishes.out, wishes.root, range(wishes.seeds)
    configs, labels = out / "configs", out / "labels"
    for folder in (configs, labels):
        folder.mkdir(exist_ok=True)
    pretrained = [arm for arm in wishes.arms if arm.is_pretrained]
    for arm in pretrained:
        teacher = str(files[arm.teacher]) if arm.teacher else None
        pretraining(arm, base, distillation, teacher).dump(configs / f"{arm.name}.py")
    for share, (cfg, _) in finetunings.items():
        cfg.dump(configs / f"finetune-{_slug(share)}.py")
        for seed in seeds:
            text = "\n".join(lists[seed][share]) + "\n"
            write_whole(_list(out, share, seed), text.encode())
    knn = ["--knn-data", str(root / "student"), "--knn-interval", "1"]
    knn += ["--knn-limit", str(CURVE_IMAGES)]

    def checkpoint(arm: Arm, seed: int) -> Path | None:
        folder = run_folder(out, arm.name, seed)
        return folder / f"pretrain/epoch_{settings['epochs']}.pth" if arm.is_pretrained else None

    return Plan(
        wishes,
        settings,
        teachers=[
            TeacherCell(name, 0, "teacher", root, file, out / f"teachers/{name}")
            for name, file in files.items()
        ],
        pretrainings=[
            PretrainingCell(
                arm.name,
                seed,
                "pretraining",
                configs / f"{arm.name}.py",
                run_folder(out, arm.name, seed) / "pretrain",
                iterations(base, num_train),
                knn,
            )
            for seed in seeds
            for arm in pretrained
        ],
        frozen=[FrozenCell(name, 0, "frozen", root, file) for name, file in files.items()]
        + [
            FrozenCell(arm.name, seed, "frozen", root, checkpoint(arm, seed))
            for seed in seeds
            for arm in wishes.arms
        ],
        finetunings=[
            FinetuningCell(
                arm.name,
                seed,
                share,
                configs / f"finetune-{_slug(share)}.py",
                run_folder(out, arm.name, seed) / _slug(share),
                num_iters,
                _list(out, share, seed).resolve(),
                checkpoint(arm, seed),
            )
            for seed in seeds
            for arm in wishes.arms
            for share, (_, num_iters) in finetunings.items()
        ],
    )


def _slug(share: str) -> str:
    return share.replace(" %", "-percent")


def _list(out: Path, share: str, seed: int) -> Path:
    return out / f"labels/{_slug(share)}_seed-{seed}.txt"
