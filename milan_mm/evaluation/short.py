"""The protocol 'short': a recipe cut down until a CPU finishes it in minutes.

It shows that weights, recipe and data work together. Model, heads, losses and the kinds of
augmentation stay; schedule, batch, images and data shrink.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config, ConfigDict

from milan_mm.datasets.coco.folder import NEEDED
from milan_mm.datasets.coco.reading import take_coco
from milan_mm.datasets.folders import find_split, subfolders
from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.tasks import PATCH_SIZE, TASKS
from milan_mm.files import replacing
from milan_mm.run.config_nodes import config_nodes, datasets_of
from milan_mm.run.quick import shrink_training

DATA_REMEDY = "link or unpack the data there, or pass --data ROOT"
ITERATIONS = 4
NUM_CLASSES, TRAIN_PER_CLASS, VAL_PER_CLASS = 10, 10, 4  # of ImageNet
NUM_VAL = 8  # validation images of detection and segmentation
SHRINK = 4  # times smaller are the images of detection and segmentation
FEWER_REGIONS = 8  # times fewer regions in each of them
_SIZES = ("scale", "scales", "crop_size", "size", "stride", "rel_pos_grid")
_EVALUATED = ("val", "test")


def shorten(cfg: Config, task: str, folder: Path) -> None:
    """Cut a recipe down, in place; its data must be there.

    Args:
        task: One that trains, see `milan_mm.evaluation.tasks`.
        folder: For the small data sets, see `small_images`.

    Raises:
        MissingFileError, UserError: When the data cannot be used.
    """
    shrink_training(cfg, 1, ITERATIONS)
    cfg.train_cfg.val_begin = ITERATIONS + 1  # never: the checkpoint is tested afterwards
    for split in _EVALUATED:
        cfg[f"{split}_dataloader"].update(num_workers=0, persistent_workers=False)
    kind = TASKS[task].data.kind
    if kind == "classes":
        root = small_images(Path(_data_set(cfg, "val").data_root), folder)
        for split in ("train", *_EVALUATED):
            _data_set(cfg, split).data_root = str(root)
        return
    if kind == "boxes":
        _use_small_coco(cfg, folder)
        _take_fewer_regions(cfg.model)
    else:
        for split in _EVALUATED:
            _data_set(cfg, split).indices = NUM_VAL
    _shrink_images(cfg)


def small_images(root: Path, folder: Path, remedy: str = DATA_REMEDY) -> Path:
    """Link some images of some classes: those that both splits have, evenly over the sorted names.

    A folder that grew since an earlier call gets new links, in another place.

    Args:
        root: With train/CLASS/* and val/CLASS/*, or a folder that was made here.
        folder: Where a folder is made for each root.
        remedy: What the user can do when the images are missing.

    Returns:
        The folder of links.

    Raises:
        MissingFileError: When a split is missing.
        UserError: When the splits share no class.
    """
    if folder in root.parents:
        return root
    if not root.is_dir():
        raise MissingFileError(f"data folder '{root}' does not exist: {remedy}")
    splits = [find_split(root, split, remedy) for split in ("train", "val")]
    names = [set(subfolders(split)) for split in splits]
    classes = _spread(sorted(names[0] & names[1]), NUM_CLASSES)
    if not classes:
        raise UserError(
            f"'{root}' has no class in both splits: check it with tools/check_data.py cls --data "
            f"{root}"
        )
    images = {
        image.relative_to(root): image.resolve()
        for split, count in zip(splits, (TRAIN_PER_CLASS, VAL_PER_CLASS), strict=True)
        for name in classes
        for image in _spread(sorted((split / name).iterdir()), count)
    }
    small = _place(folder, root, images)
    for split in splits:
        for name in classes:  # also of a class without images, so that both splits have the same
            (small / split.relative_to(root) / name).mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        link = small / name
        if not link.exists():
            link.unlink(missing_ok=True)  # one that leads nowhere
            link.symlink_to(image)
    return small


def _place(folder: Path, root: Path, images: Iterable[Path] = ()) -> Path:
    """A folder of its own for the small data of each root, and of each choice of its images."""
    digest = hashlib.sha256("\n".join(map(str, [root.resolve(), *images])).encode()).hexdigest()
    return folder / f"{root.name}-{digest[:8]}"


def _spread(items: list, count: int) -> list:
    """At most `count` items, evenly over all."""
    taken = min(count, len(items))
    return [items[i * len(items) // taken] for i in range(taken)]


def _use_small_coco(cfg: Config, folder: Path) -> None:
    """Validate on the first images alone: AP counts all that the annotation file lists."""
    dataset = _data_set(cfg, "val")
    source = Path(dataset.data_root, dataset.ann_file)
    if not source.is_file():
        raise MissingFileError(f"annotation file '{source}' does not exist: {DATA_REMEDY}")
    file = take_coco(source)
    file.refuse(NEEDED, file.problems(with_masks=False))
    images = file.images[:NUM_VAL]
    kept = {image["id"] for image in images}
    annotations = [a for a in file.annotations if a["image_id"] in kept]
    content = dict(images=images, annotations=annotations, categories=file.categories)
    small = _place(folder, Path(dataset.data_root)) / f"{source.stem}-first{NUM_VAL}.json"
    small = small.resolve()
    with replacing(small) as partial:
        partial.write_text(json.dumps(content))
    for split in _EVALUATED:
        _data_set(cfg, split).ann_file = str(small)
        cfg[f"{split}_evaluator"].ann_file = str(small)


def _take_fewer_regions(model: ConfigDict) -> None:
    """The heads see each region alone, so that their number decides the time."""
    if "rpn_head" not in model:  # of one stage
        return
    stages = model.train_cfg.rcnn
    for stage in stages if isinstance(stages, list) else [stages]:
        if "num" in stage.sampler:
            stage.sampler.num //= FEWER_REGIONS
    for settings in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        settings.max_per_img //= FEWER_REGIONS


def _data_set(cfg: Config, split: str) -> ConfigDict:
    return next(datasets_of(cfg, f"{split}_dataloader"))[1]


def _shrink_images(cfg: Config) -> None:
    """Divide the sizes of images, crops and windows, all in pixels or patches."""
    for _, node in config_nodes(cfg):
        for key in _SIZES:
            value = node.get(key)
            if isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
                node[key] = tuple(map(_smaller, value))
        if node.get("pad_size_divisor", 1) > 1:
            node["pad_size_divisor"] //= SHRINK


def _smaller(side: int) -> int:
    """A side in pixels or patches; what patches divide stays so."""
    smaller = side // SHRINK
    in_patches = smaller // PATCH_SIZE * PATCH_SIZE
    return smaller if side % PATCH_SIZE or not in_patches else in_patches
