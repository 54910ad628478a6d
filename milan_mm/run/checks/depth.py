"""Do the depth maps fit images and unit? Check a sample before training."""

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.datasets.conversion import command
from milan_mm.datasets.depth import LoadDepth
from milan_mm.datasets.folders import missing_files, spread
from milan_mm.datasets.labels import UnreadableLabelError
from milan_mm.datasets.loading import MAX_FAILED_SHARE
from milan_mm.datasets.shared import iter_transforms
from milan_mm.errors import MissingFileError, UserError
from milan_mm.run.checks.labels import size_of
from milan_mm.run.config_nodes import datasets_of, type_name

SAMPLE = 16  # depth maps read per data set; `LoadDepth` checks every one when it is loaded


def check_depth(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Check that each image has a depth map, and read some of them; other tasks have none.

    Training skips up to 1 % of missing or damaged ones, as of images; evaluation none.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log about depth maps that will be skipped.

    Raises:
        MissingFileError: When images have no depth map.
        UserError: When there are no images, or one of the sample is refused by `LoadDepth`.
    """
    notes = []
    for loader in loaders:
        for field, dataset in datasets_of(cfg, loader):
            pipeline = dataset.get("pipeline") or []
            if any(type_name(transform) == "LoadDepth" for transform in pipeline):
                notes += _check(field, dataset)
    return notes


def _check(field: str, settings: dict) -> list[str]:
    with DefaultScope.overwrite_default_scope("mmseg"):
        # mmengine cannot serialise a list of no images
        dataset = DATASETS.build(dict(settings, serialize_data=False))
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not samples:
        raise UserError(
            f"{field} has no images '*{dataset.img_suffix}' in "
            f"'{dataset.data_prefix.get('img_path')}': correct the folder or {field}.img_suffix"
        )
    limit = MAX_FAILED_SHARE * len(samples) if field.startswith("train") else 0
    missing = set(missing_files(sample["depth_map_path"] for sample in samples))
    notes = []
    if missing:
        lonely = next(s for s in samples if s["depth_map_path"] in missing)
        found = (
            f"{len(missing)} of {len(samples)} images have no depth map: image "
            f"'{lonely['img_path']}' has no '{lonely['depth_map_path']}'"
        )
        if len(missing) > limit:
            remedy = "add the depth maps, or remove the images"
            if type_name(settings) == "NYUDataset":
                remedy = f"this makes the folders of the archive: {command('nyu', 'nyu.zip')}"
            raise MissingFileError(f"{found}; {remedy}")
        notes.append(f"{found}; training skips them")
    reader = next(step for step in iter_transforms(dataset) if isinstance(step, LoadDepth))
    damaged = []
    chosen = spread(samples, min(len(samples), SAMPLE))
    for sample in chosen:
        try:
            reader.transform(sample | size_of(sample["img_path"]))
        except MissingFileError:
            continue  # counted above
        except UnreadableLabelError as error:
            damaged.append(error)
            if len(damaged) > limit:
                raise
    if damaged:
        notes.append(f"{len(damaged)} of {len(chosen)} depth maps looked into: {damaged[0]}")
    return notes
