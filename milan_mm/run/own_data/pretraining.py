"""Pretraining on any folder of images, without labels."""

from pathlib import Path

from mmengine.config import Config

from milan_mm.datasets.folders import EXTENSIONS, note_unread, subfolders, training_images
from milan_mm.run.own_data.settings import set_dataset
from milan_mm.run.records.record import Recorded
from milan_mm.text import shorten_list


def use_images(cfg: Config, root: Path, tested: Recorded | None = None) -> list[str]:
    """Take all images of a folder tree, or those of its training split when it has one.

    Args:
        tested: Unused: a pretraining is not tested.

    Raises:
        UserError: When there are none, or many photos of types that are not read.
    """
    prefix, images, unread = training_images(root)
    notes = note_unread(root / prefix, len(images), unread)
    for loader in ("train_dataloader", "test_dataloader"):  # the latter is of inferencers
        if cfg.get(loader):
            set_dataset(
                cfg,
                loader,
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
    return lines + notes
