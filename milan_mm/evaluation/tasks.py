"""What an encoder can be judged by: one row for each task of `tools/evaluate.py`.

A task that trains names a recipe of ViT-B and ViT-L. The others are computed from frozen features.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from milan_mm.datasets.variants import VARIANTS

PATCH_SIZE = 16  # pixels, of all recipes that are shipped


@dataclass(frozen=True)
class DataSet:
    """Published data, or a user's own in their place.

    Attributes:
        name: In rows and tables.
        kind: What its labels are, which decides how a user's own data are read.
    """

    name: str
    kind: Literal["classes", "boxes", "maps", "depths"]


@dataclass(frozen=True)
class Metric:
    """A number that a task gives.

    Attributes:
        name: In rows and tables.
        key: What tools/test.py calls it; '' where nothing is trained.
        factor: From its number to that of the row.
        unit: Of the row. What is in % lies between 0 and 100.
        lower_is_better: For ranks.
        title: That a column has beside its data; '' for verb and name.
    """

    name: str
    key: str = ""
    factor: float = 1
    unit: str = "%"
    lower_is_better: bool = False
    title: str = ""

    @property
    def digits(self) -> int:
        """After the point, in tables."""
        return 1 if self.unit == "%" else 3


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: For --tasks, and in rows.
        data: That it is published on.
        metrics: That it gives.
        verb: What tables write beside the data.
        recipe: Of its training, with the architecture and patch size to be filled in.
        unit: What counts the length of its recipe, as an option of the tools.
        whole: Training and validation images of the published numbers: at least, and exactly.
        is_drawn: Whether a seed decides its number although no encoder is trained.
    """

    name: str
    data: DataSet
    metrics: tuple[Metric, ...]
    verb: str = ""
    recipe: str | None = None
    unit: Literal["epochs", "iters"] = "epochs"
    whole: tuple[int, int] | None = None
    is_drawn: bool = False


IMAGENET = DataSet("ImageNet", "classes")
COCO = DataSet("COCO", "boxes")
LVIS = DataSet("LVIS", "boxes")
ADE20K = DataSet("ADE20K", "maps")
CITYSCAPES = DataSet("Cityscapes", "maps")
PASCAL_CONTEXT = DataSet("Pascal Context", "maps")
COCO_STUFF = DataSet("COCO-Stuff", "maps")
NYU = DataSet("NYU Depth v2", "depths")

_TOP = (Metric("top-1", "accuracy/top1"), Metric("top-5", "accuracy/top5"))
_AP = (Metric("box AP", "coco/bbox_mAP", 100), Metric("mask AP", "coco/segm_mAP", 100))
_LVIS_AP = (Metric("box AP", "lvis/bbox_AP", 100), Metric("mask AP", "lvis/segm_AP", 100))
_SHOTS = (1, 2, 5, 10)
_MIOU = (Metric("mIoU", "mIoU"),)
_DEPTH = (
    Metric("RMSE", "rmse", unit="m", lower_is_better=True),
    Metric("abs rel", "abs_rel", unit="", lower_is_better=True),
    Metric("d1", "d1", 100),  # share of the pixels that are wrong by less than a factor of 1.25
)
_UPERNET = "seg/upernet_vit-{{arch}}-p{{patch}}_8xb2-amp-80k_{data}"
_LINEAR_HEAD = "seg/linear-head_vit-{{arch}}-p{{patch}}_8xb2-amp-40k_{data}"


def _of_patches(name: str, data: DataSet) -> Iterator[Task]:
    """Segmentation without a training."""
    yield Task(f"{name}-knn", data, (Metric("mIoU"),), "k-NN of patches", is_drawn=True)
    verb = "logistic regression of patches"
    yield Task(f"{name}-logreg", data, (Metric("mIoU"),), verb, is_drawn=True)


def _of_maps(name: str, data: DataSet, folder: str, whole: tuple[int, int]) -> Iterator[Task]:
    """All of a data set beside ADE20K."""
    for ending, verb, pattern in (("", "", _UPERNET), ("-linear", "linear", _LINEAR_HEAD)):
        yield Task(name + ending, data, _MIOU, verb, pattern.format(data=folder), "iters", whole)
    yield from _of_patches(name, data)


_ROWS = (
    Task("knn", IMAGENET, (Metric("top-1"), Metric("top-5")), "k-NN"),
    Task(
        "knn-grid",
        IMAGENET,
        tuple(Metric(f"k={k}", title=f"k-NN top-1, k={k}") for k in (1, 5, 10, 20, 50, 100, 200)),
        "k-NN for several k",
    ),
    Task("logreg", IMAGENET, (Metric("top-1"), Metric("top-5")), "logistic regression"),
    Task(
        "few-shot",
        IMAGENET,
        tuple(Metric(f"{n}-shot", title=f"{n}-shot logistic regression top-1") for n in _SHOTS),
        "few-shot logistic regression",
    ),
    Task(
        "few-shot-knn",
        IMAGENET,
        tuple(Metric(f"{n}-shot", title=f"{n}-shot k-NN top-1") for n in _SHOTS),
        "few-shot k-NN",
    ),
    Task(
        "low-data",
        IMAGENET,
        tuple(
            Metric(share, title=f"logistic regression on {share} of train top-1")
            for share in ("1 %", "10 %")
        ),
        "logistic regression on a share of train",
    ),
    Task(
        "linear-grid",
        IMAGENET,
        (Metric("top-1"), Metric("top-5")),
        "best of a grid of linear probes",
        is_drawn=True,
    ),
    Task(
        "attentive",
        IMAGENET,
        (Metric("top-1"), Metric("top-5")),
        "best of a grid of attentive probes",
        is_drawn=True,
    ),
    Task(
        "linear",
        IMAGENET,
        _TOP,
        "linear",
        "cls/linear_vit-{arch}-p{patch}_8xb2048-amp-coslr-100e_in1k",
    ),
    Task(
        "finetune",
        IMAGENET,
        _TOP,
        "finetuned",
        "cls/finetune_vit-{arch}-p{patch}_8xb128-amp-coslr-100e_in1k",
        whole=(1_281_167, 50_000),
    ),
    Task(
        "coco",
        COCO,
        _AP,
        recipe="det/mask-rcnn_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_coco",
        unit="iters",
        whole=(117_000, 5_000),
    ),
    Task(
        "ade20k",
        ADE20K,
        _MIOU,
        recipe="seg/upernet_vit-{arch}-p{patch}_8xb2-amp-160k_ade20k-512x512",
        unit="iters",
        whole=(20_210, 2_000),
    ),
    Task(
        "coco-cascade",
        COCO,
        _AP,
        "Cascade",
        "det/cascade-mask-rcnn_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_coco",
        unit="iters",
        whole=(117_000, 5_000),
    ),
    Task(
        "coco-mask2former",
        COCO,
        _AP,
        "Mask2Former",
        "det/mask2former_vit-{arch}-p{patch}_8xb2-amp-lsj-50e_coco",
        unit="iters",
        whole=(117_000, 5_000),
    ),
    Task(
        "coco-fcos",
        COCO,
        _AP[:1],
        "FCOS",
        "det/fcos_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_coco",
        unit="iters",
        whole=(117_000, 5_000),
    ),
    Task(
        "lvis",
        LVIS,
        _LVIS_AP,
        "",
        "det/mask-rcnn_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_lvis",
        unit="iters",
        whole=(99_000, 19_809),
    ),
    Task(
        "lvis-cascade",
        LVIS,
        _LVIS_AP,
        "Cascade",
        "det/cascade-mask-rcnn_vit-{arch}-p{patch}_8xb8-amp-lsj-100e_lvis",
        unit="iters",
        whole=(99_000, 19_809),
    ),
    *_of_patches("ade20k", ADE20K),
    Task(
        "ade20k-linear",
        ADE20K,
        _MIOU,
        "linear",
        _LINEAR_HEAD.format(data="ade20k-512x512"),
        unit="iters",
        whole=(20_210, 2_000),
    ),
    Task(
        "ade20k-mask2former",
        ADE20K,
        _MIOU,
        "Mask2Former",
        "seg/mask2former_vit-{arch}-p{patch}_8xb2-amp-160k_ade20k-512x512",
        unit="iters",
        whole=(20_210, 2_000),
    ),
    *_of_maps("cityscapes", CITYSCAPES, "cityscapes-768x768", (2_975, 500)),
    *_of_maps("pascal-context", PASCAL_CONTEXT, "pascal-context-59-480x480", (4_998, 5_105)),
    *_of_maps("coco-stuff", COCO_STUFF, "coco-stuff164k-512x512", (118_287, 5_000)),
    Task(
        "nyu-depth",
        NYU,
        _DEPTH,
        "linear",
        "depth/linear-depth_vit-{arch}-p{patch}_8xb2-amp-38400i_nyu-416x544",
        unit="iters",
        whole=(24_231, 654),
    ),
)
TASKS = {task.name: task for task in _ROWS}
# On a variant of ImageNet, of those that train on ImageNet; another order of magnitude than %.
_VARIANT = (Metric("top-1", "variant/top1"), Metric("top-5", "variant/top5"))
_MCE = Metric("mCE", "variant/mCE", unit="% of AlexNet's error", lower_is_better=True)
USUAL = ("knn", "linear", "finetune", "coco", "ade20k")  # without --tasks
DATA_NAMES = frozenset(
    [*(task.data.name for task in _ROWS), *(variant.title for variant in VARIANTS.values())]
)


def trained(tasks: Iterable[str] = TASKS) -> list[str]:
    """Names of those that train."""
    return [name for name in tasks if TASKS[name].recipe]


def seeded(tasks: Iterable[str] = TASKS) -> list[str]:
    """Names of those whose number depends on a seed."""
    return [name for name in tasks if TASKS[name].recipe or TASKS[name].is_drawn]


def of_kind(kind: str, tasks: Iterable[str] = TASKS) -> list[str]:
    """Names of those on data of a kind, see `DataSet`."""
    return [name for name in tasks if TASKS[name].data.kind == kind]


def metrics_of(task: str, data: str) -> tuple[Metric, ...]:
    """What a task gives on a data set."""
    variants = {variant.title: name for name, variant in VARIANTS.items()}
    if data not in variants:
        return TASKS[task].metrics
    return (*_VARIANT, _MCE) if variants[data] == "imagenet-c" else _VARIANT


def metric_of(task: str, data: str, name: str) -> Metric:
    """A metric by its name.

    Raises:
        KeyError: When the task has none of this name on the data.
    """
    return {metric.name: metric for metric in metrics_of(task, data)}[name]
