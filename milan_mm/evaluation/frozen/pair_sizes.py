"""Does every label map have the size of its image? Read from the heads of the files."""

from pathlib import Path

from mmengine.registry import DATASETS, DefaultScope

from milan_mm.datasets.image_size import read_header
from milan_mm.errors import UserError


def check_pair_sizes(dataset: dict) -> None:
    """Compare images and label maps, a tenth of a millisecond each; unreadable ones are left out.

    Args:
        dataset: Config of a data set of mmseg.

    Raises:
        UserError: Naming the first label map of another size than its image.
    """
    with DefaultScope.overwrite_default_scope("mmseg"):
        pairs = DATASETS.build(dict(dataset, pipeline=[], serialize_data=False))
    for i in range(len(pairs)):
        sample = pairs.get_data_info(i)
        image, labels = (read_header(Path(sample[key])) for key in ("img_path", "seg_map_path"))
        if image and labels and image[:2] != labels[:2]:
            raise UserError(
                f"label '{sample['seg_map_path']}' has {labels.width}x{labels.height} pixels, its "
                f"image '{sample['img_path']}' has {image.width}x{image.height}: give both one size"
            )
