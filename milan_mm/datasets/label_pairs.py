"""Images and label maps of one's own for segmentation; mmseg's data sets need it, so it is loaded
only when a config names it."""

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset

from milan_mm.datasets.labels import IGNORED
from milan_mm.errors import UserError
from milan_mm.registry import DATASETS


@DATASETS.register_module()
class LabelPairs(BaseSegDataset):
    """Label c means class number c, from 0 on; a label without a class means "not labelled".

    mmseg's own data sets hand such labels on to the loss, which ends a training on a GPU without
    naming a file. Arguments are those of mmseg's `BaseSegDataset`; `metainfo.classes` is required.
    """

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Which labels of the files become which: all from the number of classes on, 255.

        Raises:
            UserError: When the classes are not given.
        """
        if not new_classes:
            raise UserError("LabelPairs needs the names of the classes: set metainfo.classes")
        return dict.fromkeys(range(len(new_classes), IGNORED), IGNORED)
