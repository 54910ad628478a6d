"""Images and depth maps of one's own; mmseg's data sets need it, so it is loaded only when a config
names it."""

from typing import ClassVar

from mmseg.datasets import BaseSegDataset

from milan_mm.registry import DATASETS


@DATASETS.register_module()
class DepthPairs(BaseSegDataset):
    """A depth map for every image, of the same name.

    mmseg's `NYUDataset` also reads the kind of room from the name of an image, and fails where it
    has no digit. Arguments are those of mmseg's `BaseSegDataset`, with the folder of the depth maps
    as `data_prefix.seg_map_path`.
    """

    METAINFO: ClassVar = dict(classes=())  # mmseg asks for some

    def load_data_list(self) -> list[dict]:
        """One dict for each image, with `img_path` and `depth_map_path`."""
        found = super().load_data_list()
        return [info | dict(depth_map_path=info.pop("seg_map_path")) for info in found]
