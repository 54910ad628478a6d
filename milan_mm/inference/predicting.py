"""Predictions on pictures, by the steps of the training's own test: loading, resizing, model.

Pictures are batched only with others that the model sees at the same size. So a prediction does not
depend on its neighbours, which would pad a smaller picture, and is that of `tools/test.py`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader

from milan_mm.engine.amp import in_bfloat16
from milan_mm.engine.checkpoints import safe_loading
from milan_mm.errors import UserError
from milan_mm.inference.known_types import check_types
from milan_mm.inference.pictures import Picture
from milan_mm.inference.restoring import Restored, Saved
from milan_mm.inference.samples import Sample, Samples, Unreadable, as_it_is, pixels_of, refusal
from milan_mm.registry import MODELS
from milan_mm.run.config_nodes import datasets_of, type_name, views_of_test
from milan_mm.run.silence import silence
from milan_mm.text import count

# Transforms that read what is to be predicted.
ANNOTATIONS = (
    "LoadAnnotations",
    "LoadLabels",
    "LoadPanopticAnnotations",
    "LoadDepth",
    "LoadDepthAnnotation",
)
_WAITING = 4  # batches of pictures that wait for others of their size


@dataclass(frozen=True)
class Detections:
    """Objects of a picture.

    Attributes:
        boxes: (N, 4) float32, left, top, right, bottom in pixels of the picture.
        labels: (N,) int.
        scores: (N,) float32 in 0-1, falling; None of a truth.
        masks: (N, H, W) bool; None of a detector without them.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    masks: np.ndarray | None


@dataclass(frozen=True)
class Prediction:
    """What a model says about a picture.

    Attributes:
        picture: That one.
        size: (height, width) in pixels.
        image: (H, W, 3) uint8, RGB; None where it was not asked for.
        found: `Detections`; of a segmentor the labels (H, W) int; of a classifier the
            probabilities (C,) float32; of a depth estimator metres (H, W) float32.
    """

    picture: Picture
    size: tuple[int, int]
    image: np.ndarray | None
    found: Any


class Predictor:
    """Predicts on pictures as the test of the training does.

    With `TestTimeAug` in that test, each picture is seen at several scales, and flipped.

    Args:
        restored: A model that predicts.
        batch: Most pictures that the model sees at a time.
        amp: Compute in bfloat16; of a detector the backbone and the neck.
        workers: Processes that read pictures; 0 reads in this one.

    Raises:
        UserError: When the model predicts nothing, or its config has no test.
    """

    def __init__(
        self, restored: Restored, batch: int = 1, amp: bool = False, workers: int = 0
    ) -> None:
        self.restored, self.batch, self.amp, self.workers = restored, batch, amp, workers
        settings = prediction_pipeline(restored)
        with DefaultScope.overwrite_default_scope(restored.config.default_scope), silence():
            self.pipeline = Compose(settings)
            model: Any = restored.model
            self._step: Callable[[dict[str, Any]], Any] = model.test_step
            if any(type_name(transform) == "TestTimeAug" for transform in settings):
                self._step = self._merged().test_step
            elif restored.task == "seg":
                _pad_to_patches(model)
                self._step = partial(_segment, model)

    def _merged(self) -> Any:
        wrapper = self.restored.config.get("tta_model")
        if not wrapper:
            raise UserError(
                f"{self.restored.path}: its test has TestTimeAug and no tta_model: set one by "
                "--cfg-options"
            )
        with safe_loading():
            return MODELS.build(ConfigDict(wrapper, module=self.restored.model)).eval()

    def __call__(
        self, pictures: Sequence[Picture], with_images: bool = True
    ) -> Iterator[Prediction | Unreadable]:
        """Predict on pictures, in their order.

        Args:
            with_images: Whether `Prediction.image` is wanted.
        """
        loader = DataLoader(
            Samples(self.pipeline, pictures, with_images),
            batch_size=None,
            num_workers=min(self.workers, len(pictures)),
            collate_fn=as_it_is,
        )
        done: dict[int, Prediction | Unreadable] = {}
        waiting: dict[Any, list[Sample]] = {}
        first = 0  # the picture whose result comes next
        for index, sample in enumerate(loader):
            if isinstance(sample, Unreadable):
                done[index] = sample
            else:
                group = waiting.setdefault(_shape(sample.inputs["inputs"]), [])
                group.append(sample)
                if len(group) == self.batch:
                    done |= self._predict(waiting, first=sample.index)
            if len(done) + sum(map(len, waiting.values())) >= _WAITING * self.batch:
                done |= self._predict(waiting, first) if first not in done else {}
            while first in done:
                yield done.pop(first)
                first += 1
        while first < len(pictures):
            if first not in done:
                done |= self._predict(waiting, first)
            yield done.pop(first)
            first += 1

    @torch.inference_mode()
    def _predict(
        self, waiting: dict[Any, list[Sample]], first: int
    ) -> dict[int, Prediction | Unreadable]:
        """Predict on the group of pictures that has this one."""
        shape = next(s for s, group in waiting.items() if first in [x.index for x in group])
        group = waiting.pop(shape)
        with ExitStack() as stack:
            stack.enter_context(silence())  # mmseg warns of pictures that had other sizes
            if self.amp:
                self._use_bfloat16(stack)
            try:
                outputs = self._step(pseudo_collate([sample.inputs for sample in group]))
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"{str(error).split('. ')[0]}: {count(len(group), 'picture')} of "
                    f"{pixels_of(group[0].size)}: pass --batch N with a smaller N, or --device cpu"
                ) from None
            except RuntimeError as error:
                if type(error) is not RuntimeError:  # of the GPU, which then serves no other one
                    raise
                # such as one of a few pixels, of which strides leave nothing
                return {s.index: Unreadable(s.picture, refusal(s.size, error)) for s in group}
        return {
            sample.index: Prediction(
                sample.picture, sample.size, sample.image, arrays_of(self.restored.task, output)
            )
            for sample, output in zip(group, outputs, strict=True)
        }

    def _use_bfloat16(self, stack: ExitStack) -> None:
        model, device = self.restored.model, self.restored.device.type
        if self.restored.task != "det":
            stack.enter_context(torch.autocast(device, torch.bfloat16))
            return
        for name in ("backbone", "neck"):  # NMS and RoIAlign do not support it
            if hasattr(model, name):
                stack.enter_context(in_bfloat16(getattr(model, name), device))


def _pad_to_patches(model: Any) -> None:
    """Let a segmentor that sees pictures as they are take any size; others are not changed.

    What is added is zero after normalisation, and its labels are cut off again.
    """
    preprocessor, patch = model.data_preprocessor, getattr(model.backbone, "patch_size", None)
    if patch and preprocessor.test_cfg is None and model.test_cfg.get("mode") == "whole":
        preprocessor.test_cfg = dict(size_divisor=patch)


def _segment(model: Any, batch: dict[str, Any]) -> Any:
    from milan_mm.inference.large import is_large, predict_large  # imports mmseg

    is_too_large = is_large(model, batch["data_samples"])
    return predict_large(model, batch) if is_too_large else model.test_step(batch)


def default_workers(device: torch.device) -> int:
    """Processes that read pictures: a GPU would wait for one, a CPU is busy with the model."""
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def prediction_pipeline(saved: Saved | Restored) -> list[ConfigDict]:
    """The steps of the training's test, without those that read annotations.

    Raises:
        UserError: For a pretraining, with what it is good for, and when a config does not test on
            one data set.
    """
    path = saved.path
    if saved.task == "pretrain":
        raise UserError(
            f"{path} is a pretraining checkpoint, which has no head to predict with: look at what "
            f"it learnt by tools/look.py, or train a head by tools/train.py CONFIG --weights {path}"
        )
    datasets = list(datasets_of(saved.config, "test_dataloader"))
    if len(datasets) != 1 or not datasets[0][1].get("pipeline"):
        raise UserError(
            f"{saved.path}: its config tests on {len(datasets)} data sets, and pictures are loaded "
            "as those of one: set test_dataloader by --cfg-options"
        )
    pipeline = views_of_test(saved.config) or datasets[0][1].pipeline
    check_types(pipeline, saved.config.default_scope, saved.path)
    return _without_annotations(pipeline)


def _without_annotations(pipeline: Iterable[ConfigDict]) -> list[ConfigDict]:
    kept = []
    for transform in pipeline:
        if type_name(transform) in ANNOTATIONS:
            continue
        if type_name(transform) == "TestTimeAug":
            branches = [_without_annotations(branch) for branch in transform.transforms]
            transform = ConfigDict(transform, transforms=[b for b in branches if b])
        kept.append(transform)
    return kept


def _shape(inputs: Any) -> tuple:
    """Sizes of what the model sees of a picture: one view, or several."""
    if isinstance(inputs, list):
        return tuple(map(_shape, inputs))
    return tuple(inputs.shape)


def arrays_of(task: str, output: Any) -> Any:
    """What a model returned for an image, see `Prediction.found`."""
    if task == "det":
        return objects_of(output.pred_instances)
    if task == "seg":
        return output.pred_sem_seg.data[0].cpu().numpy()
    if task == "depth":
        return output.pred_depth_map.data.squeeze().cpu().numpy()
    return output.pred_score.float().cpu().numpy()


def objects_of(instances: InstanceData) -> Detections:
    """mmdet's objects: of a prediction the most confident first, of a truth in their order."""
    found = instances.cpu()
    scores = found.scores.float() if "scores" in found else None
    if scores is not None:
        order = scores.argsort(descending=True, stable=True)
        found, scores = found[order], scores[order].numpy()
    boxes, masks = found.bboxes, found.get("masks")
    if masks is not None:  # of a truth, mmdet's own kinds of masks
        masks = np.asarray(masks.to_ndarray() if hasattr(masks, "to_ndarray") else masks, bool)
    boxes = boxes.tensor if hasattr(boxes, "tensor") else boxes
    return Detections(boxes.numpy(), found.labels.numpy(), scores, masks)
