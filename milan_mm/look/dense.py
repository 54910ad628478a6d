"""What detectors or segmentors find, beside the truth: one column per initialisation."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import nn
from tqdm import tqdm

from milan_mm.datasets.folders import spread
from milan_mm.errors import UserError
from milan_mm.inference.classes import Classes
from milan_mm.inference.pictures import Picture
from milan_mm.inference.predicting import (
    ANNOTATIONS,
    Detections,
    Prediction,
    Predictor,
    Unreadable,
    objects_of,
)
from milan_mm.inference.restoring import Restored, restore
from milan_mm.look.outcome import Outcome, Wording, make_facts
from milan_mm.look.systems import SHORT_HASH, check_names, distinct_names, short_path
from milan_mm.palette import Colour
from milan_mm.run.checks.coco import check_coco, use_coco_reader
from milan_mm.run.config_nodes import config_nodes, datasets_of, type_name
from milan_mm.run.own_data import set_own_data
from milan_mm.run.silence import silence
from milan_mm.visualization.drawing import draw_detections
from milan_mm.visualization.label_overlay import UNLABELLED, blend_classes
from milan_mm.visualization.lettering import enlarged
from milan_mm.visualization.panels import Frame, Panel, panel_figure
from milan_mm.weights.reading import file_sha256

LABEL_SHARE = 0.75  # of the class colours; the image itself is beside it
LINE = 1 / 110  # width of lines, as a share of a panel
_ARCHITECTURES = dict(
    CascadeRCNN="Cascade R-CNN", FCNHead="FCN", MaskRCNN="Mask R-CNN", UPerHead="UperNet"
)
KINDS = dict(det="detector", seg="segmentor", cls="classifier", pretrain="pretraining")


@dataclass(frozen=True)
class Truth:
    """An image, and what is in it.

    Attributes:
        path: Of its file.
        image: (H, W, 3) uint8, RGB.
        found: `Detections` without scores; or labels (H, W) int, `UNLABELLED` without one.
    """

    path: Path
    image: np.ndarray
    found: Any


def read_trained(
    files: Sequence[str], task: str, names: Sequence[str] | None = None
) -> dict[str, Restored]:
    """Models of one task by the names of their columns.

    Args:
        task: 'det' or 'seg'.
        names: None takes those of the files.

    Raises:
        MissingFileError, UserError: When one is of another task, or their classes differ.
    """
    check_names(names, files, "--checkpoints")
    labels = names or distinct_names(files)
    found: dict[str, Restored] = {}
    for label, file in zip(labels, files, strict=True):
        restored = restore(file)
        if restored.task != task:
            other = {"det": "detections", "seg": "segmentation", "pretrain": "masks"}
            hint = other.get(restored.task)
            raise UserError(
                f"{file} is a {KINDS[restored.task]}'s checkpoint, not a {KINDS[task]}'s"
                + (f": see tools/look.py {hint}" if hint else "")
            )
        if not restored.classes:
            raise UserError(f"{file} names no classes: give a checkpoint of tools/train.py")
        first = next(iter(found.values()), restored)
        if restored.classes != first.classes:
            raise UserError(
                f"{file} has other classes than {first.path} ({len(restored.classes)} and "
                f"{len(first.classes or [])}): compare models of one data set"
            )
        found[label] = restored
    return found


def read_truths(restored: Restored, data: str | None, number: int) -> tuple[list[Truth], str]:
    """Images of the validation split with their annotations, evenly spaced.

    Args:
        restored: Its config says where the split is, and how it is read.
        data: Another folder, as `--data` of tools/test.py takes it.

    Returns:
        Them, and the folder.

    Raises:
        MissingFileError, UserError: When there are none, or of other classes.
    """
    config = Config(copy.deepcopy(restored.config.to_dict()))
    if data:
        set_own_data(config, data, restored.recorded)
    settings = [node for _, node in datasets_of(config, "val_dataloader")]
    if len(settings) != 1:
        raise UserError(f"{restored.path}: its config validates on {len(settings)} data sets")
    dataset = settings[0]
    root = str(dataset.get("data_root"))
    if not data and not Path(root).is_dir():
        raise UserError(
            f"'{root}', where {restored.path} was validated, is not here: give the data, --data DIR"
        )
    check_coco(config, ("val_dataloader",))  # masks are decoded here, too
    use_coco_reader(config)
    dataset.pipeline = _steps(dataset.pipeline, restored.task)
    dataset.test_mode = True
    with DefaultScope.overwrite_default_scope(config.default_scope), silence():
        built = DATASETS.build(dataset)
        chosen = spread(range(len(built)), min(number, len(built)))
        return [_truth(built[index], restored.task) for index in chosen], root


def dense_figure(
    models: Mapping[str, Restored],
    truths: Sequence[Truth],
    root: str,
    score_thr: float,
    wording: Wording,
) -> Outcome:
    """Draw a row per image: the image, the truth, and what each model finds.

    Args:
        score_thr: Objects with a lower score are left out.
    """
    first = next(iter(models.values()))
    classes = Classes.of(first)
    pictures = [
        Picture(str(truth.path), i + 1, truth.path.name, truth.path.stem)
        for i, truth in enumerate(truths)
    ]
    columns: dict[str, list[Any]] = {"ground truth": [truth.found for truth in truths]}
    for name, restored in models.items():
        results = Predictor(restored)(pictures, with_images=False)
        columns[name] = [_found(r) for r in tqdm(results, name, len(pictures), unit=" images")]
    if first.task == "det":
        columns = {name: [_sure(one, score_thr) for one in f] for name, f in columns.items()}
    present = sorted(
        {label for found in columns.values() for one in found for label in _labels(one)}
    )
    colours = classes.colours
    rows = [
        [Panel(truth.image), *(_panel(truth.image, f[i], colours) for f in columns.values())]
        for i, truth in enumerate(truths)
    ]
    weights = [
        dict(name=name, file=restored.path, sha256=file_sha256(restored.path))
        for name, restored in models.items()
    ]
    caption = _caption(models, weights, root, score_thr)
    frame = Frame(
        titles=["image", *columns],
        row_titles=[truth.path.stem for truth in truths],
        legend={classes.names[label]: tuple(c / 255 for c in colours[label]) for label in present},
        caption=wording.drawn(caption),
        width=wording.width,
    )
    title = "Detections" if first.task == "det" else "Segmentation"
    facts = make_facts(title, caption, wording, data=root)
    if first.task == "det":
        facts["score_thr"] = score_thr
    facts["images"] = [str(truth.path) for truth in truths]
    facts["weights"] = weights
    return Outcome(panel_figure(rows, frame), facts)


def _steps(pipeline: Sequence[dict], task: str) -> list[dict]:
    """Load an image and its annotations, in the image's own size."""
    labels = [
        node
        for _, node in config_nodes(list(pipeline))
        if "type" in node and type_name(node) in ANNOTATIONS
    ][:1]
    pack = "PackDetInputs" if task == "det" else "PackSegInputs"
    return [
        dict(type="milan_mm.LoadImage"),
        *labels,
        dict(type=pack, meta_keys=("img_path",)),
    ]


def _truth(sample: dict, task: str) -> Truth:
    annotations = sample["data_samples"]
    image = np.ascontiguousarray(sample["inputs"].permute(1, 2, 0).numpy()[..., ::-1])
    path = Path(annotations.img_path)
    if task == "seg":
        return Truth(path, image, annotations.gt_sem_seg.data[0].numpy().astype(np.int64))
    return Truth(path, image, objects_of(annotations.gt_instances))


def architecture(model: nn.Module) -> str:
    """What papers call a detector or segmentor, e.g. 'Mask R-CNN'; else the class of its code."""
    kind = type(getattr(model, "decode_head", model)).__name__  # mmseg's models are named by heads
    return _ARCHITECTURES.get(kind, kind)


def _found(result: Prediction | Unreadable) -> Any:
    if isinstance(result, Unreadable):
        raise UserError(f"image '{result.picture.path}' cannot be read: {result.reason}")
    return result.found


def _sure(found: Detections, score_thr: float) -> Detections:
    """Those from a score on; of a truth all."""
    if found.scores is None:
        return found
    kept = found.scores >= score_thr
    masks = None if found.masks is None else found.masks[kept]
    return Detections(found.boxes[kept], found.labels[kept], found.scores[kept], masks)


def _labels(found: Any) -> set[int]:
    """Classes in an image."""
    labels = found.labels if isinstance(found, Detections) else found
    return {int(label) for label in np.unique(labels)} - {UNLABELLED}


def _panel(image: np.ndarray, found: Any, colours: Sequence[Colour]) -> Panel:
    is_empty = isinstance(found, Detections) and not len(found.labels)
    return Panel(_draw(image, found, colours), note="no objects" if is_empty else "")


def _draw(image: np.ndarray, found: Any, colours: Sequence[Colour]) -> np.ndarray:
    if isinstance(found, Detections):
        masks = None if found.masks is None else found.masks
        return draw_detections(
            image, found.boxes, found.labels, None, colours, masks=masks, line=LINE
        )
    return blend_classes(enlarged(image), found, colours, LABEL_SHARE)


def _caption(
    models: Mapping[str, Restored], weights: Sequence[dict[str, str]], root: str, score_thr: float
) -> str:
    kinds = " and ".join(dict.fromkeys(architecture(one.model) for one in models.values()))
    is_det = any(one.task == "det" for one in models.values())
    of_what = f"Objects with a score from {score_thr:g} on. " if is_det else ""
    files = "; ".join(
        f"{one['name']} = {short_path(one['file'])} (sha256 {one['sha256'][:SHORT_HASH]})"
        for one in weights
    )
    return (
        f"Annotations of {root}, and what trained models ({kinds}) find. {of_what}"
        f"Checkpoints: {files}."
    )
