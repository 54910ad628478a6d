"""Cascade Mask R-CNN on LVIS v1 at 1024 px with a plain ViT-B/16: what differs from COCO.

The published recipe of detectron2's ViTDet project, line by line; docs/transfer.md says where each
number comes from, what differs, and where the data belong.
Expect (published, not measured here): box/mask AP 43.0/38.9 for MAE (ViTDet project, standard
deviation over seeds about 0.3); for MILAN nothing is published.
Cost (ViTDet project, 64 A100, one image each): 15.2 GB per GPU and 0.356 s per iteration, hence
about 15 hours. A GPU with less than 80 GB takes the 8 images in parts: --batch-per-gpu 2.
Run: bash tools/dist_train.sh \
    configs/det/cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_lvis.py 8 --weights ENCODER
"""

_base_ = "./cascade-mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco.py"

num_classes = 1203

model = dict(
    roi_head=dict(
        bbox_head=[
            {
                **head,
                "num_classes": num_classes,
                "loss_cls": dict(type="milan_mm.FederatedLoss", num_classes=num_classes),
            }
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(num_classes=num_classes),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)),
)

data_root = "data/lvis_v1/"
ann_files = ["annotations/lvis_v1_train.json", "annotations/lvis_v1_val.json"]
train_dataloader = dict(
    # images with a category in fewer than 0.1 % of all are repeated
    sampler=dict(_delete_=True, type="milan_mm.RepeatFactorSampler", threshold=0.001),
    dataset=dict(
        type="milan_mm.LVISV1Dataset",
        data_root=data_root,
        ann_file=ann_files[0],
        data_prefix=dict(img=""),  # names begin with train2017/ or val2017/
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="milan_mm.LVISV1Dataset",
        data_root=data_root,
        ann_file=ann_files[1],
        data_prefix=dict(img=""),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(type="milan_mm.LVISMetric", ann_file=data_root + ann_files[1])
test_evaluator = val_evaluator

max_iters = 156_250  # 100 epochs of 100,000 images at a total batch of 64
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=250),
    dict(type="MultiStepLR", by_epoch=False, milestones=[138_889, 150_463], gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=30_000)
