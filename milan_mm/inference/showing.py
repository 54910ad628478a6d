"""What a test predicts, drawn beside what is true: `tools/test.py --show-dir`.

The frameworks have hooks for this, one each. They write into the folder of the run, and images of
one name into one file; what their visualizers do not show says `milan_mm.visualization.drawing`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.datasets.decoding import decode, read_content
from milan_mm.inference.classes import Classes
from milan_mm.inference.drawn import drawn, save_jpeg
from milan_mm.inference.pictures import name_pictures
from milan_mm.inference.predicting import arrays_of, objects_of
from milan_mm.inference.restoring import predicts_depth
from milan_mm.text import count
from milan_mm.visualization.drawing import side_by_side

_TASKS = dict(mmdet="det", mmseg="seg")
TRUTH, PREDICTION = "annotated", "predicted"


class ShowHook(Hook):
    """Writes a picture for each image of a test.

    Args:
        folder: For the pictures, whose names are those of the images, with the folders below the
            one that they have in common.
        score_thr: Objects with a lower score are left out.
    """

    def __init__(self, folder: str | Path, score_thr: float = 0.3) -> None:
        self.folder, self.score_thr = Path(folder), score_thr
        self._stems: dict[str, str] = {}

    def before_test(self, runner: Runner) -> None:
        """Name the pictures."""
        dataset = runner.test_loop.dataloader.dataset
        paths = [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
        self._stems = {picture.path: picture.stem for picture in name_pictures(paths)}
        info, self.task = dataset.metainfo, _TASKS.get(runner.cfg.get("default_scope"), "cls")
        if predicts_depth(runner.cfg):
            self.task, info = "depth", {}
        colours = [tuple(colour) for colour in info.get("palette") or ()]
        self.classes = Classes.named(self.task, info.get("classes") or (), colours)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        for sample in outputs or ():
            image = np.ascontiguousarray(decode(read_content(sample.img_path))[..., ::-1])
            found, truth = arrays_of(self.task, sample), self._truth(sample)
            picture = drawn(self.task, image, found, self.classes, self.score_thr)
            if self.task == "cls":
                picture = side_by_side([picture], [f"{TRUTH}: {truth}"] if truth else [PREDICTION])
            elif truth is not None:
                annotated = drawn(self.task, image, truth, self.classes)
                titles = [TRUTH, PREDICTION]
                if self.task == "det":
                    number = int((found.scores >= self.score_thr).sum())
                    titles = [
                        f"{TRUTH}: {count(len(truth.boxes), 'object')}",
                        f"{PREDICTION}: {count(number, 'object')}, "
                        f"score {self.score_thr:g} or more",
                    ]
                picture = side_by_side([annotated, picture], titles)
            save_jpeg(self.folder / f"{self._stems[sample.img_path]}.jpg", picture)

    def _truth(self, sample: Any) -> Any:
        """What is annotated; None where nothing is."""
        if self.task == "det":
            return objects_of(sample.gt_instances) if "gt_instances" in sample else None
        if self.task == "seg":
            return sample.gt_sem_seg.data[0].cpu().numpy() if "gt_sem_seg" in sample else None
        if self.task == "depth":
            return sample.gt_depth_map.data.squeeze().numpy() if "gt_depth_map" in sample else None
        return self.classes.names[int(sample.gt_label)] if "gt_label" in sample else None
