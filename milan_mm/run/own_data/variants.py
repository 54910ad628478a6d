"""`--test-set NAME`: a classifier of ImageNet-1K on other published test images."""

from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict

from milan_mm.datasets.variants import VARIANTS
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.config_nodes import datasets_of
from milan_mm.run.own_data.settings import transforms_of

NUM_CLASSES = 1000


def use_variant(cfg: Config, name: str, folder: str | Path) -> list[str]:
    """Test on a variant of ImageNet, in place; see `milan_mm.datasets.variants`.

    Args:
        name: A key of `VARIANTS`. folder: Of its images.

    Returns:
        A line for the log.

    Raises:
        MissingFileError, UserError: When the folder does not exist, or the config is not of a
            classifier of 1,000 classes.
    """
    variant, root = VARIANTS[name], Path(folder)
    num_classes = ((cfg.get("model") or {}).get("head") or {}).get("num_classes")
    if num_classes != NUM_CLASSES:
        what = f"{num_classes} classes" if num_classes else "no classes"
        raise UserError(
            f"--test-set {name} has classes of ImageNet-1K, and {cfg.filename} has {what}: test a "
            "checkpoint that was finetuned or probed on ImageNet-1K"
        )
    if not root.is_dir():
        raise MissingFileError(f"--data {root} does not exist: give the folder of {variant.title}")
    cfg.test_dataloader = deepcopy(cfg.test_dataloader)  # which may be that of the validation
    (_, dataset), *others = datasets_of(cfg, "test_dataloader")
    if others:
        raise UserError(f"--test-set {name}: the test of {cfg.filename} mixes several data sets")
    if name == "imagenet-c":
        _keep_size(cfg)
    pipeline = dataset.get("pipeline")
    dataset.clear()
    dataset.update(
        type="milan_mm.ImageNetVariant", variant=name, data_root=str(root), pipeline=pipeline
    )
    cfg.test_evaluator = ConfigDict(type="milan_mm.VariantAccuracy")
    return [f"--test-set {name}: {variant.title} in '{folder}', as in {variant.source}"]


def _keep_size(cfg: Config) -> None:
    """ImageNet-C is stored at 224 px: its protocol crops, and resizes for larger images only."""
    transforms = list(transforms_of(cfg, "test_dataloader"))
    crops = [node.crop_size for node in transforms if node.get("type", "").endswith("CenterCrop")]
    for node in transforms:
        if crops and node.get("type", "").endswith("ResizeEdge"):
            node.scale = max(crops[0], 224)
