"""Pretraining on any folder of images, without labels."""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.folders import EXTENSIONS, list_images, subfolders
from milan_mm.errors import UserError
from milan_mm.run.own_data.settings import set_dataset
from milan_mm.run.record import Recorded
from milan_mm.text import shorten_list

# Where a data set with splits has its training images. Images of other splits, and label maps,
# which are images too, must stay out.
_TRAINING = (
    "train",
    "training",
    "train2017",
    "images/train",
    "images/training",
    "images/train2017",
    "images",
)


def use_images(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Take all images of a folder tree, or those of its training split when it has one.

    Args:
        tested: Unused: a pretraining is not tested.

    Raises:
        UserError: When there are none.
    """
    prefixes = [prefix for prefix in _TRAINING if (root / prefix).is_dir()]
    found = ((prefix, list_images(root / prefix)) for prefix in [*prefixes, ""])
    prefix, images = next(((p, names) for p, names in found if names), ("", []))
    if not images:
        raise UserError(
            f"--data '{root}' has no images at any depth: give a folder with files of the types "
            + " ".join(EXTENSIONS)
        )
    set_dataset(
        cfg,
        "train_dataloader",
        type="CustomDataset",
        data_root=str(root),
        data_prefix=prefix,
        with_label=False,
        extensions=EXTENSIONS,
    )
    folders = {str(Path(name).parent) for name in images}
    lines = [f"{len(images)} images in {len(folders)} folder(s) of '{root / prefix}', no labels"]
    others = [name for name in subfolders(root) if name != prefix.split("/")[0]]
    if prefix and others:
        lines.append(f"not used: {shorten_list(others)} next to '{prefix}'")
    return lines
