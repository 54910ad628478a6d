"""`--img-size`: another size of the images, with all that a recipe lays out for it.

Recipes state the size once and derive pipelines, padding, windows of the test, grids and the
backbone's positions from it, see `milan_mm.run.names`. A pretrained encoder keeps its own
positions, which are resized when they are loaded or, in dense tasks, to each image.
"""

from pathlib import Path

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.names import local_names, set_names

# What recipes call the side of their images, of crops of them, and of those of a test.
SIZE_NAMES = ("img_size", "crop_size", "short_side")


def set_image_size(cfg: Config, size: int) -> list[str]:
    """Train and test on images of another size, in place.

    Args:
        size: Side in pixels.

    Returns:
        Lines for the log about what follows.

    Raises:
        UserError: When patches do not divide the size, or the config's file states no size that
            the rest is derived from.
    """
    option = f"--img-size {size}"
    patch = (cfg.model.get("backbone") or {}).get("patch_size", 16)
    if size % patch:
        below = size // patch * patch
        nearest = f"{below} or {below + patch}" if below else str(patch)
        raise UserError(f"{option}: patches of {patch} pixels do not divide it, take {nearest}")
    names = [name for name in SIZE_NAMES if name in local_names(cfg)]
    if not names:
        raise UserError(
            f"{option}: {Path(cfg.filename).name} states no {' or '.join(SIZE_NAMES[:2])} that "
            "pipelines and model are derived from: set the sizes in its pipelines and "
            "model.backbone.img_size, or start from a recipe"
        )
    settings = {n: size if isinstance(cfg[n], int) else (size,) * len(cfg[n]) for n in names}
    return set_names(cfg, settings, option)
