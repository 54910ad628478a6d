"""The cascade against detectron2's `CascadeROIHeads`, whose numbers on one example are below.

They come from detectron2 at commit 02b5c4e295, run with the weights and the regions that are made
here: 512 regions per image at most, so that neither draws any.
"""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from milan_mm.configs import load

NUM_CLASSES, CHANNELS, SIZE = 7, 8, (128, 160)
COCO, LVIS = (
    f"det/cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_{data}" for data in ("coco", "lvis")
)
OBJECTS = [
    (torch.tensor([[10.0, 12, 70, 60], [80, 40, 150, 120]]), torch.tensor([1, 4])),
    (torch.tensor([[30.0, 20, 120, 110]]), torch.tensor([6])),
]
# detectron2's losses, the norm of their gradient at stride 4, and of its detections the sums of
# scores and of corners
DETECTRON2 = {
    COCO: {
        "s0.loss_cls": 2.19401,
        "s0.loss_bbox": 0.875957,
        "s1.loss_cls": 2.17764,
        "s1.loss_bbox": 1.26965,
        "s2.loss_cls": 2.09523,
        "s2.loss_bbox": 1.2418,
        "loss_mask": 0.704701,
        "gradient": 0.012574,
        "scores": 31.8417,
        "corners": 48094.5,
    },
    LVIS: {
        "s0.loss_cls": 5.50555,
        "s0.loss_bbox": 0.866688,
        "s1.loss_cls": 4.80437,
        "s1.loss_bbox": 1.43962,
        "s2.loss_cls": 5.64564,
        "s2.loss_bbox": 1.00769,
        "loss_mask": 0.703419,
        "gradient": 0.0146641,
        "scores": 294.507,
        "corners": 139970.0,
    },
}


def narrow_heads(recipe: str) -> nn.Module:
    """The heads of a recipe, narrow, with random weights of a fixed seed."""
    model = load(recipe).model
    cfg: ConfigDict = model.roi_head
    for head in cfg.bbox_head:
        head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, fc_out_channels=16)
        head.num_classes = NUM_CLASSES
        if "num_classes" in head.loss_cls:
            head.loss_cls.update(num_classes=NUM_CLASSES, num_drawn=NUM_CLASSES + 1)
    cfg.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, num_classes=NUM_CLASSES)
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        cfg[part].out_channels = CHANNELS
    cfg.update(train_cfg=model.train_cfg.rcnn, test_cfg=model.test_cfg.rcnn)
    with DefaultScope.overwrite_default_scope("mmdet"):
        heads = MODELS.build(cfg)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in heads.named_parameters():
            scale = 0.05 if "fc_reg" in name else 0.3 if parameter.ndim > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    for head in heads.bbox_head:
        if hasattr(head.loss_cls, "set_image_counts"):
            head.loss_cls.set_image_counts(torch.full((NUM_CLASSES,), 1e6))
    return heads


def features_and_regions() -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Four maps of two images, and boxes in pixels: around the objects, and anywhere."""
    generator = torch.Generator().manual_seed(1)
    maps = tuple(
        torch.randn(2, CHANNELS, SIZE[0] // stride, SIZE[1] // stride, generator=generator)
        for stride in (4, 8, 16, 32)
    )
    regions = []
    for boxes, _ in OBJECTS:
        near = boxes.repeat(15, 1)
        near = near + 8 * torch.randn(near.shape, generator=generator)
        corners = torch.rand(40, 2, generator=generator) * torch.tensor([120.0, 90.0])
        far = torch.cat([corners, corners + 6 + 30 * torch.rand(40, 2, generator=generator)], 1)
        both = torch.cat([near, far])
        both[:, 0::2] = both[:, 0::2].clamp(0, SIZE[1])
        both[:, 1::2] = both[:, 1::2].clamp(0, SIZE[0])
        regions.append(both)
    return maps, regions


def masks_of(boxes: Tensor) -> Tensor:
    """(N, H, W), the left part of each box."""
    masks = torch.zeros(len(boxes), *SIZE)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1 : (x1 + x2) // 2 + 10] = 1
    return masks


def samples() -> list[DetDataSample]:
    found = []
    for boxes, labels in OBJECTS:
        sample = DetDataSample(
            metainfo=dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0))
        )
        masks = BitmapMasks(masks_of(boxes).numpy().astype("uint8"), *SIZE)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
        nothing = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        sample.ignored_instances = InstanceData(**nothing)
        found.append(sample)
    return found


def proposals(regions: list[Tensor]) -> list[InstanceData]:
    return [
        InstanceData(bboxes=boxes.clone(), scores=torch.linspace(1, 0, len(boxes)))
        for boxes in regions
    ]


@pytest.mark.parametrize("recipe", [COCO, LVIS])
def test_losses_gradients_and_detections_are_detectron2s(recipe):
    heads, (maps, regions) = narrow_heads(recipe), features_and_regions()
    maps = tuple(part.requires_grad_() for part in maps)
    losses = heads.loss(maps, proposals(regions), samples())
    found = {name: float(value.detach().sum()) for name, value in losses.items() if "loss" in name}
    sum(value.sum() for name, value in losses.items() if "loss" in name).backward()
    found["gradient"] = float(maps[0].grad.norm())
    with torch.no_grad():
        detections = heads.eval().predict(maps, proposals(regions), samples())
    found["scores"] = sum(float(part.scores.sum()) for part in detections)
    found["corners"] = sum(float(part.bboxes.sum()) for part in detections)
    assert found == pytest.approx(DETECTRON2[recipe], rel=1e-4)


def test_masks_of_the_final_boxes_come_from_one_head():
    heads, (maps, regions) = narrow_heads(COCO).eval(), features_and_regions()
    with torch.no_grad():
        detections = heads.predict(maps, proposals(regions), samples())
    assert [name for name, _ in heads.named_children()].count("mask_head") == 1
    for part in detections:
        assert part.masks.shape == (len(part.bboxes), *SIZE) and len(part.bboxes)


def test_raw_outputs_are_those_of_each_stage_and_one_mask_head():
    heads, (maps, regions) = narrow_heads(COCO).eval(), features_and_regions()
    with torch.no_grad():
        *outputs, masks = heads(maps, proposals(regions), samples())
    count = sum(map(len, regions))
    shapes = [(count, NUM_CLASSES + 1), (count, 4)] * 3
    assert [tuple(part.shape) for part in outputs] == shapes
    assert masks.shape == (100, NUM_CLASSES, 28, 28)


def test_images_without_regions_have_no_detections():
    heads, (maps, _) = narrow_heads(COCO).eval(), features_and_regions()
    with torch.no_grad():
        detections = heads.predict(maps, proposals([torch.zeros(0, 4)] * 2), samples())
    assert [len(part.bboxes) for part in detections] == [0, 0]


def test_a_head_that_regresses_class_by_class_is_refused():
    cfg = load(COCO).model.roi_head
    cfg.bbox_head[1].reg_class_agnostic = False
    refused = pytest.raises(ValueError, match="set reg_class_agnostic=True in every")
    with DefaultScope.overwrite_default_scope("mmdet"), refused:
        MODELS.build(cfg)
