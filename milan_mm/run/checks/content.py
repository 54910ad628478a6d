"""All checks of data before a run."""

from mmengine.config import Config

from milan_mm.run.checks.classes import check_classes
from milan_mm.run.checks.coco import check_coco
from milan_mm.run.checks.depth import check_depth
from milan_mm.run.checks.files import check_data
from milan_mm.run.checks.images import check_images
from milan_mm.run.checks.labels import check_labels
from milan_mm.run.checks.lists import check_lists
from milan_mm.run.processes import is_main_process

CHECKS = (check_classes, check_lists, check_images, check_labels, check_depth, check_coco)


def check_content(cfg: Config, loaders: tuple[str, ...]) -> list[str]:
    """Look for the data; the main process also checks their content, and the others wait for it.

    Args:
        loaders: Names of data loaders, e.g. ('train_dataloader', 'val_dataloader').

    Returns:
        Lines for the log.

    Raises:
        MissingFileError, UserError: Names what is wrong, and the remedy.
    """
    check_data(cfg, loaders)
    if not is_main_process():
        return []
    return [note for check in CHECKS for note in check(cfg, loaders)]
