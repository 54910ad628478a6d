"""A batch in types that a file may hold safely, and the faults of its images.

A file written by `torch.save` is read without running code only where it holds tensors, numbers,
text, lists and dicts. So the structures of mmdet, mmseg and mmpretrain become dicts that name their
class, and only classes of the tables below are built from them.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from milan_mm.errors import UserError

_CLASS = "class of a structure"  # the key that marks one
_ELEMENTS = dict(
    BaseDataElement="mmengine.structures",
    InstanceData="mmengine.structures",
    LabelData="mmengine.structures",
    PixelData="mmengine.structures",
    DetDataSample="mmdet.structures",
    SegDataSample="mmseg.structures",
    DataSample="mmpretrain.structures",
)
_BOXES = dict(HorizontalBoxes="mmdet.structures.bbox")
_MASKS = dict(BitmapMasks="mmdet.structures.mask", PolygonMasks="mmdet.structures.mask")


def to_plain(value: Any) -> Any:
    """A batch, or a part of one, as tensors on the CPU, numbers, text, lists and dicts.

    What is of none of the known classes becomes a dict with its class alone, which `from_plain`
    refuses.
    """
    name = type(value).__name__
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {_CLASS: "ndarray", "values": torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, tuple):
        return {_CLASS: "tuple", "values": [to_plain(item) for item in value]}
    if isinstance(value, BaseDataElement) and name in _ELEMENTS:
        meta = {key: to_plain(item) for key, item in value.metainfo_items()}
        return {_CLASS: name, "meta": meta, "data": {k: to_plain(v) for k, v in value.items()}}
    if name in _BOXES:
        return {_CLASS: name, "values": to_plain(value.tensor)}
    if name in _MASKS:
        size = dict(height=int(value.height), width=int(value.width))
        return {_CLASS: name, "values": to_plain(value.masks), **size}
    return {_CLASS: name}


def from_plain(value: Any) -> Any:
    """What `to_plain` was given.

    Raises:
        UserError: For a class that is not known here.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _CLASS not in value:
        return {key: from_plain(item) for key, item in value.items()}
    name = value[_CLASS]
    if name in ("tuple", "ndarray"):
        return tuple(map(from_plain, value["values"])) if name == "tuple" else _array(value)
    if name in _ELEMENTS:
        meta = {key: from_plain(item) for key, item in value["meta"].items()}
        element = _build(_ELEMENTS, name)(metainfo=meta)
        for key, item in value["data"].items():
            setattr(element, key, from_plain(item))
        return element
    if name in _BOXES:
        return _build(_BOXES, name)(value["values"])
    if name in _MASKS:
        masks = from_plain(value["values"])
        return _build(_MASKS, name)(masks, value["height"], value["width"])
    raise UserError(f"the batch holds a '{name}', which cannot be read from a file")


def _array(value: dict[str, Any]) -> np.ndarray:
    return value["values"].numpy()


def _build(table: dict[str, str], name: str) -> Any:
    return getattr(import_module(table[name]), name)


def image_names(batch: Any) -> list[str]:
    """Paths of the images of a batch, of those that have one."""
    paths = (_path(batch, place) for place in range(_count(batch)))
    return [path for path in paths if path]


def broken_images(batch: Any) -> list[str]:
    """Which images came with NaN or infinity, and where: "a.jpg (pixels)", "b.jpg (bboxes)"."""
    count, found = _count(batch), []
    for place in range(count):
        parts = ["pixels"] if any(map(_is_broken, _pixels(batch, place, count))) else []
        samples = batch.get("data_samples") or ()
        if place < len(samples):
            plain = to_plain(samples[place])
            parts += [name for name, tensor in _leaves(plain) if _is_broken(tensor)]
        if parts:
            name = _path(batch, place) or f"image {place + 1} of {count}"
            found.append(f"{name} ({', '.join(dict.fromkeys(parts))})")
    return found


def _count(batch: Any) -> int:
    """Images of a batch; 0 for one of an unknown form."""
    if not isinstance(batch, dict):
        return 0
    samples, inputs = batch.get("data_samples"), batch.get("inputs")
    return len(samples or ()) or (len(inputs) if isinstance(inputs, (list, Tensor)) else 0)


def _path(batch: dict, place: int) -> str:
    samples = batch.get("data_samples") or ()
    sample = samples[place] if place < len(samples) else None
    path = sample.metainfo.get("img_path") if isinstance(sample, BaseDataElement) else None
    return str(path or "")


def _pixels(batch: dict, place: int, count: int) -> list[Tensor]:
    """Those of one image; a list of tensors holds images, or views of the whole batch."""
    inputs = batch.get("inputs")
    if isinstance(inputs, Tensor):
        return [inputs[place]]
    tensors = [t for t in inputs or () if isinstance(t, Tensor)]
    if tensors and all(t.ndim == 4 and len(t) == count for t in tensors):
        return [t[place] for t in tensors]
    return [tensors[place]] if place < len(tensors) else []


def _leaves(value: Any, name: str = "labels") -> Iterator[tuple[str, Tensor]]:
    """Tensors of what `to_plain` returned, with the names of their fields."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, name if key in ("values", "data", "meta") else key)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, name)


def _is_broken(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(tensor.isfinite().all())
