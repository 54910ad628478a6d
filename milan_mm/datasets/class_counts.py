"""Which classes the images of a detection data set have."""

from typing import Any

from milan_mm.errors import UserError


def images_per_class(dataset: Any) -> list[int]:
    """Number of images with an object of each class, in the order of the labels.

    All images of the annotation file count, also those that the data set leaves out.

    Args:
        dataset: Of mmdet, in any wrappers.

    Raises:
        UserError: For a data set without an index of its annotations.
    """
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    images = getattr(dataset, "cat_img_map", None)
    if images is None:
        raise UserError(
            f"{type(dataset).__name__} does not know which images have which class: take a data "
            "set in COCO's or LVIS's format, or a loss other than FederatedLoss"
        )
    # one entry for each object
    return [len(set(images.get(category_id, ()))) for category_id in dataset.cat_ids]
