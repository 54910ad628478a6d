"""The nine rows of Table 4 (arXiv 2208.06049) in miniature: recipes, labelled images, table.

Further rows have teachers that the paper did not try; each takes one file.

A row says what is predicted, by which decoder and from which patches; that comes from its recipe at
paper scale (configs/pretrain/ablation/). Sizes and schedule come from one small recipe.
"""

import copy
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmpretrain.datasets import CustomDataset

from milan_mm.configs import list_configs
from milan_mm.datasets.folders import EXTENSIONS, find_class_folders
from milan_mm.errors import UserError
from milan_mm.evaluation.row_schema import make_rows
from milan_mm.registry import MODELS
from milan_mm.run.jobs import Job
from milan_mm.weights.reading import read_checkpoint

PRETRAIN = "pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes"
FINETUNE = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
# Finetuned top-1 in % on ImageNet-1K, ViT-B/16 pretrained for 400 epochs.
PUBLISHED = {1: 83.0, 2: 83.9, 3: 83.0, 4: 83.3, 5: 83.3, 6: 84.1, 7: 85.1, 8: 85.4, 9: 84.4}
# The teacher of row 9 that goes with the shipped CLIP; with another CLIP it would compare nothing.
SHIPPED_SLIP = dict(model_name="vit_shapes_patch8_96", pretrained="shipped", projection_dims=128)
# Rows beyond the paper, by the encoders of this package that can teach them.
STAND_INS = {13: "mae-mini-shapes", 14: "milan-mini-shapes"}
NO_FILE = "no weights of its teacher given (--row-teacher {row}=FILE)"
NO_SLIP = "no second teacher given (--slip-teacher)"
# From MAE to MILAN, one part at a time: target, decoder, sampling.
STEPS = {
    (1, 2): "target: pixels to CLIP",
    (2, 7): "decoder: MAE to prompting",
    (7, 8): "sampling: uniform to semantic",
}


@dataclass(frozen=True)
class AblationCell:
    """A row of the table with one seed: a pretraining, followed by a finetuning.

    Attributes:
        row: Its number. seed: Of both trainings.
        job: The pretraining.
    """

    row: int
    seed: int
    job: Job

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"row {self.row} seed {self.seed}"

    @property
    def identity(self) -> dict[str, object]:
        """The fields that identify its rows."""
        return dict(row=self.row, seed=self.seed)

    def rows(self) -> list[dict]:
        """Top-1 of the last epoch in %, and the last loss of the pretraining."""
        assert self.job.follow_up
        facts = self.identity | dict(task="ablation", pretrain_loss=self.job.losses()[-1])
        return make_rows(facts, {"top-1": self.job.follow_up.validation()["accuracy/top1"]})


def row_recipe(row: int) -> str:
    """Name of a row's recipe at paper scale."""
    (name,) = (n for n in list_configs() if n.startswith(f"pretrain/ablation/row-{row}-"))
    return name


def miniature(row: Config, mini: Config, second_teacher: dict | None = None) -> Config:
    """A row of the ablation at the size of a small recipe.

    Args:
        row: The row's recipe at paper scale: sampling, decoder, target and loss tokens.
        mini: A small recipe of MILAN: sizes, teacher, data and schedule.
        second_teacher: Settings for a row whose teacher is of another type than `mini`'s.

    Raises:
        UserError: When the row needs a second teacher and there is none.
    """
    cfg = copy.deepcopy(mini)
    model, first = cfg.model, mini.model.head.teacher
    model.mask_generator = copy.deepcopy(row.model.mask_generator)
    model.decoder.type = row.model.decoder.type
    model.head = ConfigDict({k: v for k, v in row.model.head.items() if k != "teacher"})
    teacher = row.model.head.get("teacher")
    if teacher and teacher.type == first.type:
        model.head.teacher = first
    elif teacher:
        if second_teacher is None:
            raise UserError(f"{row.filename} wants a {teacher.type}: {NO_SLIP}")
        model.head.teacher = ConfigDict(second_teacher)
        model.decoder.target_dims = MODELS.build(second_teacher).target_dims
    if "patch_size" in model.head:  # the target is pixels
        model.head.patch_size = model.backbone.patch_size
        model.decoder.target_dims = 3 * model.backbone.patch_size**2
    return cfg


def slip_settings(row: Config, mini: Config, path: str, model_name: str | None) -> dict:
    """Settings of head.teacher for row 9.

    Args:
        row: Row 9 at paper scale. mini: The small recipe, for the patch grid.
        path: A file that `TimmTeacher` reads, or 'shipped'.
        model_name: Architecture of a file in timm's naming; None takes that of the row.

    Raises:
        MissingFileError, UserError: When there is no file, or no projection to text space in it.
    """
    theirs, first = row.model.head.teacher, mini.model.head.teacher
    settings = dict(
        type=theirs.type,
        grid_size=first.grid_size,
        input_stats=first.input_stats,
        stats=theirs.stats,
    )
    if path == "shipped":
        return settings | SHIPPED_SLIP
    tensors = read_checkpoint(path)
    tensors = tensors.get("state_dict", tensors)
    projections = [t for n, t in tensors.items() if str(n).endswith("image_projection")]
    if len(projections) != 1:
        raise UserError(
            f"{path} holds {len(projections)} tensors 'image_projection', a SLIP tower has 1: give "
            "--slip-teacher a file of SLIP (arXiv 2112.12750)"
        )
    return settings | dict(
        model_name=model_name or theirs.model_name,
        pretrained=path,
        projection_dims=projections[0].shape[1],
    )


def file_settings(mini: Config, path: str) -> dict:
    """Settings of head.teacher for a row beyond the paper.

    Args:
        mini: The small recipe, for the patch grid and the student's statistics.
        path: Weights that `EncoderTeacher` reads.
    """
    first = mini.model.head.teacher
    return dict(
        type="milan_mm.EncoderTeacher",
        pretrained=path,
        grid_size=first.grid_size,
        input_stats=first.input_stats,
    )


def set_epochs(cfg: Config, epochs: int) -> None:
    """Make a small recipe longer or shorter; its warm-up is counted in iterations and stays."""
    cfg.train_cfg.max_epochs = cfg.param_scheduler[-1].T_max = epochs
    if "val_interval" in cfg.train_cfg:
        cfg.train_cfg.val_interval = epochs


def limit_warm_up(cfg: Config, updates: int) -> None:
    """Shorten the warm-up of a small recipe to a third of a training on few images, in place."""
    warm_up = cfg.param_scheduler[0]
    warm_up.end = min(warm_up.end, max(updates // 3, 1))


def images_by_class(root: Path) -> tuple[dict[str, list[str]], int]:
    """Look into train/CLASS/* and val/CLASS/*.

    Returns:
        The training images of each class, relative to `root`/train, and the number of validation
        images.

    Raises:
        MissingFileError: When `root`, train/ or val/ is missing.
        UserError: When a class has no images in one of the two.
    """
    images: dict[str, dict[str, list[str]]] = {}
    for part in ("train", "val"):
        folder = find_class_folders(root, part)
        dataset = CustomDataset(
            data_root=str(root), data_prefix=folder.name, extensions=EXTENSIONS, lazy_init=True
        )
        images[part] = defaultdict(list)
        for info in dataset.load_data_list():
            name = Path(info["img_path"]).relative_to(folder)
            images[part][name.parts[0]].append(name.as_posix())
    for part, other in (("train", "val"), ("val", "train")):
        if lacking := sorted(set(images[part]) - set(images[other])):
            raise UserError(
                f"class '{lacking[0]}' has {len(images[part][lacking[0]])} images in {root / part} "
                f"and 0 in {root / other}, at least 1 is needed: add some, or remove the class"
            )
    return dict(images["train"]), sum(map(len, images["val"].values()))


def choose_labelled(images: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Choose the images whose labels finetuning may see, equally many of each class.

    They are spread evenly over each class's sorted images, so that equal folders give equal
    choices. A class that is too small gives all that it has.

    Returns:
        Lines of an annotation file of mmpretrain: 'name label'.
    """
    share = count // len(images)
    lines = []
    for label, name in enumerate(sorted(images)):
        names = sorted(images[name])
        taken = min(share, len(names))
        lines += [f"{names[i * len(names) // taken]} {label}" for i in range(taken)]
    return lines


def write_table(rows: Sequence[dict], lacking: Mapping[int, str]) -> str:
    """The ablation as Markdown: every row next to the paper's, and the steps from MAE to MILAN.

    Args:
        rows: Results with the keys `row`, `seed` and `value`, top-1 in %.
        lacking: Why a row has no results, by row.
    """
    further = {r["row"] for r in rows} | set(lacking)
    numbers = sorted(further | set(PUBLISHED))
    values = {n: [r["value"] for r in rows if r["row"] == n] for n in numbers}
    lines = [
        "| row | target | decoder | sampling | top-1 here | seeds | top-1 in the paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for number in numbers:
        _, _, target, decoder, sampling = row_recipe(number).split("_")[0].split("-")
        here = _mean_and_spread(values[number]) or lacking.get(number, "not run")
        lines.append(
            f"| {number} | {target} | {decoder} | {sampling} | {here} | {len(values[number])} "
            f"| {PUBLISHED.get(number, '-')} |"
        )
    lines += ["", "| rows | what changes | here | in the paper |", "|---|---|---|---|"]
    for (before, after), change in STEPS.items():
        gain = PUBLISHED[after] - PUBLISHED[before]
        here = _difference(values[before], values[after])
        lines.append(f"| {before} to {after} | {change} | {here} | {gain:+.1f} |")
    return "\n".join([*lines, "", _order(values), ""])


def _mean_and_spread(values: Sequence[float]) -> str:
    """'30.1 ± 0.4': mean and standard deviation over the seeds."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _difference(before: Sequence[float], after: Sequence[float]) -> str:
    """'+1.2 ± 0.5': difference of the means and its standard error."""
    if not before or not after:
        return "not run"
    gain = statistics.mean(after) - statistics.mean(before)
    if min(len(before), len(after)) < 2:
        return f"{gain:+.1f}"
    error = math.sqrt(sum(statistics.variance(v) / len(v) for v in (before, after)))
    verdict = "" if abs(gain) > 2 * error else ", within noise"
    return f"{gain:+.1f} ± {error:.1f}{verdict}"


def _order(values: Mapping[int, Sequence[float]]) -> str:
    chain = [1, 2, 7, 8]
    if not all(values[row] for row in chain):
        return "The order of rows 1, 2, 7 and 8 needs all four of them."
    means = {row: statistics.mean(values[row]) for row in chain}
    broken = [f"{a} < {b}" for a, b in pairwise(chain) if not means[a] < means[b]]
    if not broken:
        return "The paper's order 1 < 2 < 7 < 8 reappeared."
    return f"The paper's order 1 < 2 < 7 < 8 did not reappear: not {' and not '.join(broken)}."
