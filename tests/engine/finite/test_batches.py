"""A batch goes into a file of plain types and comes back; its bad images are named."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from milan_mm.engine.finite.batches import broken_images, from_plain, image_names, to_plain
from milan_mm.errors import UserError
from milan_mm.weights.reading import read_checkpoint


def detection(name: str = "a.jpg", corner: float = 1.0) -> DetDataSample:
    boxes = HorizontalBoxes(torch.tensor([[corner, 2.0, 3.0, 4.0]]))
    masks = BitmapMasks(np.ones((1, 4, 5), np.uint8), 4, 5)
    instances = InstanceData(bboxes=boxes, labels=torch.tensor([1]), masks=masks)
    meta = dict(img_path=name, img_shape=(4, 5), scale_factor=np.array([1.0, 2.0]))
    return DetDataSample(gt_instances=instances, metainfo=meta)


def segmentation(name: str = "a.jpg") -> SegDataSample:
    labels = PixelData(data=torch.ones(1, 4, 5, dtype=torch.int64))
    return SegDataSample(gt_sem_seg=labels, metainfo=dict(img_path=name, flip=None))


def through_a_file(value: object, folder: Path) -> object:
    torch.save(dict(value=to_plain(value)), folder / "batch.pth")
    return from_plain(read_checkpoint(folder / "batch.pth")["value"])


def described(sample: object) -> list[str]:
    """Its fields and values, which are printed in any order."""
    return sorted(re.sub(r" at 0x\w+", "", str(sample)).split("\n"))


@pytest.mark.parametrize(
    "sample",
    [detection(), segmentation(), DataSample(metainfo=dict(img_path="a.jpg")).set_gt_label(2)],
    ids=["det", "seg", "cls"],
)
def test_a_sample_comes_back_from_a_file(sample: object, tmp_path: Path):
    batch = dict(inputs=[torch.rand(3, 4, 5)], data_samples=[sample], more=(1, "x", None))
    back = through_a_file(batch, tmp_path)
    assert torch.equal(back["inputs"][0], batch["inputs"][0]) and back["more"] == (1, "x", None)
    assert described(back["data_samples"][0]) == described(sample)
    assert type(back["data_samples"][0]) is type(sample)


def test_boxes_and_masks_come_back_as_such(tmp_path: Path):
    polygons = PolygonMasks([[np.array([0.0, 0, 4, 0, 4, 4])]], 4, 5)
    back, shape = through_a_file([detection().gt_instances, polygons], tmp_path)
    assert isinstance(back.bboxes, HorizontalBoxes) and back.masks.masks.dtype == np.uint8
    assert shape.masks[0][0].tolist() == polygons.masks[0][0].tolist()


def test_an_unknown_class_is_refused_by_its_name():
    with pytest.raises(UserError, match="holds a 'Random', which cannot be read"):
        from_plain(to_plain([__import__("random").Random()]))


def test_images_with_bad_pixels_or_labels_are_named():
    bad = torch.ones(3, 4, 5)
    bad[1, 2, 3] = float("nan")
    good = torch.ones(3, 4, 5, dtype=torch.uint8)
    samples = [detection("a.jpg"), detection("b.jpg"), detection("c.jpg", corner=float("inf"))]
    batch = dict(inputs=[good, bad, good], data_samples=samples)
    assert image_names(batch) == ["a.jpg", "b.jpg", "c.jpg"]
    assert broken_images(batch) == ["b.jpg (pixels)", "c.jpg (bboxes)"]


@pytest.mark.parametrize("inputs", ["stacked", "views"])
def test_images_without_samples_are_counted(inputs: str):
    images = torch.ones(3, 3, 4, 5)
    images[2] = float("inf")
    batch = dict(inputs=images if inputs == "stacked" else [torch.ones(3, 3, 4, 5), images])
    assert broken_images(dict(batch, data_samples=[DataSample()] * 3)) == ["image 3 of 3 (pixels)"]


def test_a_batch_of_another_form_has_no_images():
    assert image_names((1, 2)) == [] and broken_images([torch.ones(2)]) == []
