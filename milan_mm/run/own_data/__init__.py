"""`--data DIR`: any recipe, on images of one's own.

What is in the folder decides: the classes, and with them the heads, the evaluators and the colours.
Models, augmentation, schedule, learning rate and total batch stay those of the recipe.
"""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.foreign import convert_hint
from milan_mm.early import check_own_data
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.own_data.classification import use_image_folder
from milan_mm.run.own_data.depth import use_depth_pairs
from milan_mm.run.own_data.detection import use_coco_folder
from milan_mm.run.own_data.pretraining import use_images
from milan_mm.run.own_data.segmentation import use_label_pairs
from milan_mm.run.records.record import Recorded

_TASKS = dict(
    pretrain=use_images,
    cls=use_image_folder,
    det=use_coco_folder,
    seg=use_label_pairs,
    depth=use_depth_pairs,
)


def set_own_data(cfg: Config, folder: str, tested: Recorded | None = None) -> list[str]:
    """Let a config train and evaluate on the images of `folder`, in place.

    To be called before options of the command line are applied, so that these have the last word,
    and before `--quick` shortens the data sets.

    Args:
        tested: The checkpoint of a test, which knows the classes: the folder needs no training
            split then. One that does not name them is as good as None, but for depth.

    Returns:
        Lines about what was found, for the user to compare with what was meant.

    Raises:
        MissingFileError: When the folder, a split or a partner of an image is missing.
        UserError: When what is there does not fit together, is of another program and can be
            converted, or the config is of an unknown task.
    """
    check_own_data(folder)
    root = Path(folder)
    task = _task(cfg)
    known = tested if tested and (tested.classes or task == "depth") else None
    try:
        lines = _TASKS[task](cfg, root, known)
    except MissingFileError:  # another layout, not a fault inside of this one
        if hint := convert_hint(root, task):
            raise UserError(hint) from None
        raise
    return [f"--data {folder}: {line}" for line in lines]


def _task(cfg: Config) -> str:
    scope = cfg.get("default_scope")
    if scope == "mmseg" and str(cfg.model.get("type")).endswith("DepthEstimator"):
        return "depth"
    if scope in ("mmdet", "mmseg"):
        return scope[2:]
    if scope != "mmpretrain" or "model" not in cfg:
        raise UserError(
            f"--data: {cfg.filename} has default_scope '{scope}': only training configs of "
            "mmpretrain, mmdet and mmseg are known"
        )
    return "cls" if "num_classes" in (cfg.model.get("head") or {}) else "pretrain"
