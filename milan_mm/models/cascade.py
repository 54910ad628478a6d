"""The cascade of boxes of the published plain-ViT detectors, which is not quite mmdet's."""

from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import CascadeRoIHead as MMDetCascadeRoIHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances, unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, get_box_tensor, scale_boxes
from mmdet.utils import InstanceList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from milan_mm.registry import MODELS

Features = tuple[Tensor, ...]


@MODELS.register_module()
class CascadeRoIHead(MMDetCascadeRoIHead):
    """mmdet's `CascadeRoIHead` with detectron2's rules, for boxes whose regression is shared.

    All arguments are mmdet's, but `mask_head` and `mask_roi_extractor` are single ones. It differs
    from mmdet's class as follows:

    - One mask head learns from the regions of the first stage, and sees the final boxes in tests;
      mmdet has one head per stage, and averages their masks.
    - The gradient that a stage sends into the features is divided by the number of stages.
    - A test averages probabilities of the stages; mmdet averages logits.
    - Regions of later stages are all boxes of the stage before, objects among them, except for
      empty ones; which of them are learnt from is a matter of the samplers in `train_cfg`.

    Raises:
        ValueError: When a box head regresses class by class.
    """

    # those of a detector with one stage, which ask for nothing that a cascade does not have
    init_mask_head = StandardRoIHead.init_mask_head
    _mask_forward = StandardRoIHead._mask_forward
    predict_mask = StandardRoIHead.predict_mask

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if not all(head.reg_class_agnostic for head in self.bbox_head):
            raise ValueError(
                "CascadeRoIHead regresses one box per region: set reg_class_agnostic=True in every "
                "bbox_head"
            )

    def forward(
        self, x: Features, rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> tuple[Tensor, ...]:
        """Logits and regression of each stage, then masks of up to 100 boxes that come out.

        Args:
            x: Levels of the pyramid, each (B, C, h, w).
            rpn_results_list: Per image, boxes `bboxes` (N, 4) in pixels.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        boxes = [result.bboxes for result in rpn_results_list]
        outputs: list[Tensor] = []
        for stage in range(self.num_stages):
            results = self._bbox_forward(stage, x, bbox2roi(boxes))
            outputs += [results["cls_score"], results["bbox_pred"]]
            boxes = self._decode(stage, boxes, results["bbox_pred"], metas)
        if self.with_mask:
            outputs.append(self._mask_forward(x, bbox2roi(boxes)[:100])["mask_preds"])
        return tuple(outputs)

    def loss(
        self, x: Features, rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Losses and accuracies of all stages, as 's0.loss_cls' and the like, and 'loss_mask'.

        Args:
            x: Levels of the pyramid, each (B, C, h, w).
            rpn_results_list: Per image, boxes `bboxes` (N, 4) in pixels.
        """
        objects, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses: dict[str, Tensor] = {}
        boxes = [result.bboxes for result in rpn_results_list]
        for stage in range(self.num_stages):
            samples = [
                self._sample(stage, *image) for image in zip(boxes, objects, ignored, strict=True)
            ]
            results = self.bbox_loss(stage, x, samples)
            for name, value in results["loss_bbox"].items():
                weight = self.stage_loss_weights[stage] if "loss" in name else 1
                losses[f"s{stage}.{name}"] = value * weight
            if stage == 0 and self.with_mask:
                losses |= self._mask_loss(x, samples, objects)
            if stage + 1 < self.num_stages:
                boxes = self._decode(
                    stage, [sample.priors for sample in samples], results["bbox_pred"], metas
                )
                boxes = [box[(box[:, 2:] > box[:, :2]).all(dim=1)] for box in boxes]
        return losses

    def predict_bbox(
        self,
        x: Features,
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
    ) -> InstanceList:
        """Boxes of the last stage, with the mean of the stages' probabilities.

        Args:
            x: Levels of the pyramid, each (B, C, h, w).
            rescale: Return boxes in pixels of the original image.

        Returns:
            Per image `bboxes` (N, 4), `scores` (N,) from 0 to 1, `labels` (N,).
        """
        boxes = [result.bboxes for result in rpn_results_list]
        counts = [len(box) for box in boxes]
        if not sum(counts):
            num_classes = self.bbox_head[-1].num_classes
            return empty_instances(
                batch_img_metas, x[0].device, task_type="bbox", num_classes=num_classes
            )
        parts: list[Tensor] = []
        for stage in range(self.num_stages):
            results = self._bbox_forward(stage, x, bbox2roi(boxes))
            parts.append(self._probabilities(stage, results["cls_score"]))
            boxes = self._decode(stage, boxes, results["bbox_pred"], batch_img_metas)
        scores = torch.stack(parts).mean(0)
        return [
            _suppress(*image, rcnn_test_cfg, rescale)
            for image in zip(boxes, scores.split(counts), batch_img_metas, strict=True)
        ]

    def _sample(
        self, stage: int, boxes: Tensor, objects: InstanceData, ignored: InstanceData | None
    ) -> SamplingResult:
        """Match the boxes (N, 4) of an image with its objects, and choose regions to learn from."""
        candidates = InstanceData(priors=boxes)
        assigned = self.bbox_assigner[stage].assign(candidates, objects, ignored)
        return self.bbox_sampler[stage].sample(assigned, candidates, objects)

    def _bbox_forward(self, stage: int, x: Features, rois: Tensor) -> dict[str, Tensor]:
        """Logits and regression of a stage. rois: (N, 5), number of the image and box."""
        extractor = self.bbox_roi_extractor[stage]
        features = extractor(x[: extractor.num_inputs], rois)
        if features.requires_grad:
            features.register_hook(lambda gradient: gradient / self.num_stages)
        cls_score, bbox_pred = self.bbox_head[stage](features)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=features)

    def _mask_loss(
        self, x: Features, samples: list[SamplingResult], objects: InstanceList
    ) -> dict[str, Tensor]:
        predicted = self._mask_forward(x, bbox2roi([sample.pos_priors for sample in samples]))
        return self.mask_head.loss_and_target(
            mask_preds=predicted["mask_preds"],
            sampling_results=samples,
            batch_gt_instances=objects,
            rcnn_train_cfg=self.train_cfg[0],
        )["loss_mask"]

    @torch.no_grad()
    def _decode(
        self, stage: int, boxes: list[Tensor], deltas: Tensor, metas: list[dict]
    ) -> list[Tensor]:
        """Move the boxes of each image, (N, 4), by what a stage has found, clipped to the image."""
        coder = self.bbox_head[stage].bbox_coder
        parts = deltas.split([len(box) for box in boxes])
        return [
            get_box_tensor(coder.decode(box, part, max_shape=meta["img_shape"]))
            for box, part, meta in zip(boxes, parts, metas, strict=True)
        ]

    def _probabilities(self, stage: int, logits: Tensor) -> Tensor:
        """(N, classes + 1), the background last."""
        head = self.bbox_head[stage]
        if head.custom_activation:
            return head.loss_cls.get_activation(logits)
        return nn.functional.softmax(logits, dim=-1)


def _suppress(
    boxes: Tensor, scores: Tensor, meta: dict, cfg: ConfigDict, rescale: bool
) -> InstanceData:
    """Non-maximum suppression in one image. boxes: (N, 4), scores: (N, classes + 1)."""
    if rescale:
        boxes = scale_boxes(boxes, [1 / factor for factor in meta["scale_factor"]])
    found, labels = multiclass_nms(boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img)
    return InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels)
