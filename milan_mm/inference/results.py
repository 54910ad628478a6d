"""A folder of predictions: pictures to look at, and files for programs.

Every file appears whole or not at all. The tables, which hold all pictures, appear at the end.
"""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from milan_mm.errors import ExistingFileError, UserError
from milan_mm.files import replacing
from milan_mm.inference.classes import Classes
from milan_mm.inference.predicting import Detections, Prediction
from milan_mm.text import count
from milan_mm.visualization.drawing import draw_classes, draw_detections, draw_ranking

PICTURES, LABELS = "pictures", "labels"
PREDICTIONS, IMAGES, TABLE = "predictions.json", "images.json", "predictions.csv"
TOP = 5  # labels of a classifier that are reported
_JPEG: dict[str, Any] = dict(quality=92, subsampling=0)  # letters keep their colours
_HEADERS = dict(
    det=["file", "image_id", "category_id", "class", "score", "x", "y", "width", "height"],
    seg=["file", "image_id", "label", "class", "pixels", "share"],
)


def check_folder(folder: str | Path) -> None:
    """Check that results can go there, before there are any.

    Raises:
        ExistingFileError, UserError: With what is in the way.
    """
    place = Path(folder).absolute()
    found = next(parent for parent in (place, *place.parents) if parent.exists())
    if not found.is_dir():
        raise ExistingFileError(f"--out '{folder}': '{found}' is a file: give a folder")
    if not os.access(found, os.W_OK):
        raise UserError(f"--out '{folder}': '{found}' is not a folder that you can write to")


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
        self._table.writerow(_HEADERS.get(task) or _ranking_header(len(classes.names)))

    def add(self, prediction: Prediction) -> None:
        """Write the files of a picture, and add it to the tables."""
        picture, (height, width) = prediction.picture, prediction.size
        self.images.append(
            dict(id=picture.image_id, file_name=picture.name, height=height, width=width)
        )
        drawn = dict(det=self._add_objects, seg=self._add_labels, cls=self._add_ranking)[self.task](
            prediction
        )
        if drawn is not None:
            self._save(PICTURES, f"{picture.stem}.jpg", drawn, "JPEG", **_JPEG)

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

    def _add_objects(self, prediction: Prediction) -> np.ndarray | None:
        found: Detections = prediction.found
        picture, ids, names = prediction.picture, self.classes.ids, self.classes.names
        encoded = _encode(found.masks)
        for i, (label, score, box) in enumerate(
            zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        ):
            left, top, right, bottom = box
            corner = [left, top, right - left, bottom - top]
            entry = dict(
                image_id=picture.image_id, category_id=ids[label], bbox=corner, score=score
            )
            self._write(entry | (dict(segmentation=encoded[i]) if encoded else {}))
            if score >= self.score_thr:
                rounded = [round(score, 4), *(round(v, 2) for v in corner)]
                self._table.writerow(
                    [picture.name, picture.image_id, ids[label], names[label], *rounded]
                )
        shown = found.scores >= self.score_thr
        self.num_found += int(shown.sum())
        if prediction.image is None:
            return None
        return draw_detections(
            prediction.image,
            found.boxes[shown],
            found.labels[shown],
            names,
            self.classes.colours,
            found.scores[shown],
            None if found.masks is None else found.masks[shown],
        )

    def _add_labels(self, prediction: Prediction) -> np.ndarray | None:
        labels, picture, classes = prediction.found, prediction.picture, self.classes
        values = np.asarray(classes.ids)[labels]
        kind = np.uint8 if max(classes.ids) < 256 else np.uint16
        self._save(LABELS, f"{picture.stem}.png", values.astype(kind), "PNG")
        for label, pixels in zip(*np.unique(labels, return_counts=True), strict=True):
            row = [classes.ids[label], classes.names[label], pixels, round(pixels / labels.size, 4)]
            self._table.writerow([picture.name, picture.image_id, *row])
        if prediction.image is None:
            return None
        return draw_classes(prediction.image, labels, classes.names, classes.colours)

    def _add_ranking(self, prediction: Prediction) -> np.ndarray | None:
        scores, picture = prediction.found, prediction.picture
        order = (-scores).argsort(kind="stable")[:TOP].tolist()
        ranking = [(self.classes.names[label], float(scores[label])) for label in order]
        self._write(
            dict(
                image_id=picture.image_id,
                file_name=picture.name,
                labels=order,
                classes=[name for name, _ in ranking],
                scores=[score for _, score in ranking],
            )
        )
        cells = [
            [label, name, round(s, 4)] for label, (name, s) in zip(order, ranking, strict=True)
        ]
        self._table.writerow([picture.name, picture.image_id, *(c for cell in cells for c in cell)])
        return None if prediction.image is None else draw_ranking(prediction.image, ranking)

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

    def _save(self, part: str, name: str, pixels: np.ndarray, kind: str, **settings: Any) -> None:
        content = BytesIO()
        Image.fromarray(pixels).save(content, kind, **settings)
        with replacing(self.folder / part / name, durable=False) as partial:
            partial.write_bytes(content.getvalue())


@contextmanager
def writing(folder: str | Path, task: str, classes: Classes, score_thr: float) -> Iterator[Results]:
    """Write predictions into a folder; the tables appear if the block succeeds.

    Args:
        task: 'cls', 'det' or 'seg'.
        score_thr: Objects with a lower score are neither drawn nor in the table; in the JSON file
            are all that the model returns.

    Raises:
        OSError: The disk is full or not writable.
    """
    place = Path(folder)
    with ExitStack() as stack:
        files = {}
        for name in (TABLE, *((PREDICTIONS,) if task != "seg" else ())):
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
