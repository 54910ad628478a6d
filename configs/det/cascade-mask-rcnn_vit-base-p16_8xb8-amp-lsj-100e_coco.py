"""Cascade Mask R-CNN on COCO at 1024 px with a plain ViT-B/16: three box heads, one mask head.

The published recipe of detectron2's ViTDet project: all but the box heads is that of Mask R-CNN,
which this file inherits. docs/transfer.md says where each number comes from and what differs.
Expect (published, not measured here): box/mask AP 54.0/46.7 for MAE (ViTDet project); for MILAN
nothing is published.
Cost (ViTDet project, 64 A100, one image each): 12.3 GB per GPU and 0.362 s per iteration, hence
about 19 hours. A GPU with less than 80 GB takes the 8 images in parts: --batch-per-gpu 4.
Run: bash tools/dist_train.sh \
    configs/det/cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py 8 --weights ENCODER
"""

_base_ = "./mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py"

# for each stage the overlap from which on a region is an object, and the scales of its boxes
stages = [(0.5, 1 / 10, 1 / 5), (0.6, 1 / 20, 1 / 10), (0.7, 1 / 30, 1 / 15)]

model = dict(
    type="CascadeRCNN",
    roi_head=dict(
        type="milan_mm.CascadeRoIHead",
        num_stages=len(stages),
        # the sum; each stage sends a third of its gradient into the features
        stage_loss_weights=[1.0] * len(stages),
        bbox_head=[
            dict(
                type="Shared4Conv1FCBBoxHead",
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                norm_cfg=_base_.norm_cfg,
                bbox_coder=dict(
                    type="DeltaXYWHBBoxCoder",
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[centre, centre, side, side],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="L1Loss", loss_weight=1.0),
            )
            for _, centre, side in stages
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type="MaxIoUAssigner",
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                # the first stage draws regions, the others take all that it has moved
                sampler=dict(type="PseudoSampler")
                if stage
                else dict(
                    type="RandomSampler",
                    num=512,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for stage, (overlap, _, _) in enumerate(stages)
        ]
    ),
)
