"""A folder of predictions: pictures to look at, and files for programs.

Every file appears whole or not at all. The tables, which hold all pictures, appear at the end.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pycocotools import mask as run_lengths

from milan_mm.escaping import csv_cell
from milan_mm.files import replacing
from milan_mm.inference.classes import Classes
from milan_mm.inference.drawn import TOP, drawn, ranking, save_jpeg, save_pixels
from milan_mm.inference.pictures import DEPTHS, DRAWN, LABELS, Picture
from milan_mm.inference.predicting import Detections, Prediction
from milan_mm.text import count

PREDICTIONS, IMAGES, TABLE = "predictions.json", "images.json", "predictions.csv"
_HEADERS = dict(
    det=["file", "image_id", "category_id", "class", "score", "x", "y", "width", "height"],
    seg=["file", "image_id", "label", "class", "pixels", "share"],
    depth=["file", "image_id", "nearest", "median", "farthest"],  # in metres
)


class Results:
    """Writes what a model finds on pictures, see `writing`.

    Attributes:
        images: Those that were predicted on, as COCO describes them.
        num_found: Objects from the threshold on.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        classes: Classes,
        score_thr: float,
        table: TextIO,
        predictions: TextIO | None,
    ) -> None:
        self.folder, self.task, self.classes = folder, task, classes
        self.score_thr, self.predictions = score_thr, predictions
        self.images: list[dict[str, Any]] = []
        self.num_found = self._num_written = 0
        self._table = csv.writer(table)
        self._add_row(_HEADERS.get(task) or _ranking_header(len(classes.names)))

    def add(self, prediction: Prediction) -> None:
        """Write the files of a picture, and add it to the tables."""
        picture, (height, width) = prediction.picture, prediction.size
        self.images.append(
            dict(id=picture.image_id, file_name=picture.name, height=height, width=width)
        )
        adders: dict[str, Callable[[Picture, Any], None]] = dict(
            det=self._add_objects,
            seg=self._add_labels,
            depth=self._add_depth,
            cls=self._add_ranking,
        )
        adders[self.task](picture, prediction.found)
        if prediction.image is not None:
            image = drawn(
                self.task, prediction.image, prediction.found, self.classes, self.score_thr
            )
            save_jpeg(self.folder / DRAWN / f"{picture.stem}.jpg", image)

    def summary(self, num_skipped: int = 0) -> str:
        """How many pictures and objects there were, and where the results are."""
        what = count(len(self.images), "picture")
        if self.task == "det":
            what += (
                f", {count(self.num_found, 'object')} with a score of {self.score_thr:g} or more"
            )
        if num_skipped:
            what += f", {num_skipped} skipped"
        return f"{what}: {self.folder}"

    def content(self) -> dict[str, Any]:
        """Images and categories, as in a COCO file without annotations."""
        named = zip(self.classes.ids, self.classes.names, self.classes.colours, strict=True)
        return dict(
            info=dict(description="pictures that were predicted on"),
            images=self.images,
            annotations=[],
            categories=[dict(id=i, name=name, color=list(c)) for i, name, c in named],
        )

    def _add_objects(self, picture: Picture, found: Detections) -> None:
        ids, names, codes = self.classes.ids, self.classes.names, _encode(found.masks)
        assert found.scores is not None
        objects = zip(
            found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
        )
        for i, (label, score, (left, top, right, bottom)) in enumerate(objects):
            box = [left, top, right - left, bottom - top]
            whose = dict(image_id=picture.image_id, category_id=ids[label], bbox=box, score=score)
            self._write(whose | (dict(segmentation=codes[i]) if codes else {}))
            if score >= self.score_thr:
                row = [picture.name, picture.image_id, ids[label], names[label], round(score, 4)]
                self._add_row(row + [round(side, 2) for side in box])
                self.num_found += 1

    def _add_labels(self, picture: Picture, labels: np.ndarray) -> None:
        ids, names = self.classes.ids, self.classes.names
        kind = np.uint8 if max(ids) < 256 else np.uint16
        values = np.asarray(ids)[labels].astype(kind)
        save_pixels(self.folder / LABELS / f"{picture.stem}.png", values, "PNG")
        for label, pixels in zip(*np.unique(labels, return_counts=True), strict=True):
            row = [picture.name, picture.image_id, ids[label], names[label]]
            self._add_row([*row, pixels, round(pixels / labels.size, 4)])

    def _add_depth(self, picture: Picture, depth: np.ndarray) -> None:
        values = (depth * 1000).round().clip(0, 2**16 - 1).astype(np.uint16)  # millimetres
        save_pixels(self.folder / DEPTHS / f"{picture.stem}.png", values, "PNG")
        numbers = (float(f(depth)) for f in (np.min, np.median, np.max))
        self._add_row([picture.name, picture.image_id, *(round(n, 3) for n in numbers)])

    def _add_ranking(self, picture: Picture, scores: np.ndarray) -> None:
        labels = ranking(scores)
        names, shares = [self.classes.names[i] for i in labels], scores[labels].tolist()
        whose = dict(image_id=picture.image_id, file_name=picture.name)
        self._write(whose | dict(labels=labels, classes=names, scores=shares))
        row: list[Any] = [picture.name, picture.image_id]
        for label, name, share in zip(labels, names, shares, strict=True):
            row += [label, name, round(share, 4)]
        self._add_row(row)

    def _add_row(self, row: Sequence[object]) -> None:
        self._table.writerow(map(csv_cell, row))

    def _write(self, entry: dict[str, Any]) -> None:
        """Add an entry to the predictions, which need not fit into memory."""
        assert self.predictions is not None
        self.predictions.write(",\n" if self._num_written else "[\n")
        self.predictions.write(json.dumps(entry))
        self._num_written += 1

    def close(self) -> None:
        """End the list of predictions."""
        if self.predictions is not None:
            self.predictions.write("\n]\n" if self._num_written else "[]\n")


@contextmanager
def writing(folder: str | Path, task: str, classes: Classes, score_thr: float) -> Iterator[Results]:
    """Write predictions into a folder; the tables appear if the block succeeds.

    Args:
        task: 'cls', 'det', 'seg' or 'depth'.
        score_thr: Objects with a lower score are neither drawn nor in the table; in the JSON file
            are all that the model returns.

    Raises:
        OSError: The disk is full or not writable.
    """
    place = Path(folder)
    with ExitStack() as stack:
        files = {}
        for name in (TABLE, *((PREDICTIONS,) if task not in ("seg", "depth") else ())):
            partial = stack.enter_context(replacing(place / name))
            files[name] = stack.enter_context(partial.open("w", encoding="utf-8", newline=""))
        results = Results(place, task, classes, score_thr, files[TABLE], files.get(PREDICTIONS))
        yield results
        results.close()
        with replacing(place / IMAGES) as partial:
            partial.write_text(json.dumps(results.content(), indent=1) + "\n", encoding="utf-8")


def _encode(masks: np.ndarray | None) -> list[dict[str, Any]]:
    """COCO's run lengths, as text; nothing of a detector without masks."""
    if masks is None:
        return []
    encoded = [run_lengths.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    return [dict(code, counts=code["counts"].decode()) for code in encoded]


def _ranking_header(num_classes: int) -> list[str]:
    numbers = range(1, min(TOP, num_classes) + 1)
    return [
        *("file", "image_id"),
        *(f"{name}_{i}" for i in numbers for name in ("label", "class", "probability")),
    ]
