"""`--img-size`: another size of the images, with all that a recipe lays out for it.

Recipes state the size once and derive pipelines, padding, windows of the test, grids and the
backbone's positions from it, see `milan_mm.run.fields.names`. A pretrained encoder keeps its own
positions, which are resized when they are loaded or, in dense tasks, to each image.
"""

from pathlib import Path

from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.fields.names import set_names
from milan_mm.run.fields.source import local_names

# What recipes call the side of their images, of crops of them, and of those of a test.
SIZE_NAMES = ("img_size", "crop_size", "short_side")


def check_patches(size: int, patch: int, option: str) -> None:
    """Check that patches divide an image.

    Args:
        size, patch: Sides in pixels.
        option: What the size was set by, for messages.

    Raises:
        UserError: With the nearest sizes.
    """
    if size % patch:
        below = size // patch * patch
        fitting = f"{below} or {below + patch}" if below else str(patch)
        raise UserError(f"{option}: patches of {patch} pixels do not divide it, take {fitting}")


def is_pooled(cfg: Config) -> bool:
    """Whether the encoder gives one vector per image; such a recipe takes the file's patches."""
    return (cfg.get("model", {}).get("backbone") or {}).get("out_type") in (
        "cls_token",
        "avg_featmap",
    )


def set_image_size(cfg: Config, size: int) -> list[str]:
    """Train and test on images of another size, in place.

    Args:
        size: Side in pixels.

    Returns:
        Lines for the log about what follows.

    Raises:
        UserError: When the config's file states no size that the rest is derived from.
    """
    option = f"--img-size {size}"
    names = [name for name in SIZE_NAMES if name in local_names(cfg)]
    if not names:
        raise UserError(
            f"{option}: {Path(cfg.filename).name} states no {' or '.join(SIZE_NAMES[:2])} that "
            "pipelines and model are derived from: set the sizes in its pipelines and "
            "model.backbone.img_size, or start from a recipe"
        )
    settings = {n: size if isinstance(cfg[n], int) else (size,) * len(cfg[n]) for n in names}
    return set_names(cfg, settings, option)
