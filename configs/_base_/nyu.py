"""NYU Depth v2: indoor scenes of 480 x 640 px with depths up to 10 m, in crops of 416 x 544 px.

Sources: mmsegmentation's `nyu.py` (folders, metric) and DINOv3's `config-nyu.yaml` (augmentation).
Training images come without their white frame. docs/transfer.md has the command that makes the
folders.
"""

_base_ = ["mmseg::_base_/datasets/nyu.py"]

crop_size, max_depth = (416, 544), 10.0
whole = (480, 640)  # the images as they are, and the window of a test

load_depth = dict(type="milan_mm.LoadDepth", max_depth=max_depth, scale=1000.0)
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    load_depth,
    dict(type="milan_mm.CropFrame"),
    dict(type="mmseg.RandomRotate", prob=0.5, degree=2.5, seg_pad_val=0),
    dict(type="mmseg.RandomFlip", prob=0.5),
    dict(type="mmseg.RandomCrop", crop_size=crop_size),
    dict(
        type="RandomApply",
        prob=0.5,
        transforms=[dict(type="mmpretrain.ColorJitter", brightness=(0.75, 1.25))],
    ),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmseg.Resize", scale=(2000, whole[0]), keep_ratio=True),
    load_depth,  # after the resize: the ground truth keeps its size
    dict(type="mmseg.PackSegInputs"),
]

gpus, batch_per_gpu = 8, 2
total_batch = gpus * batch_per_gpu
train_dataloader = dict(batch_size=batch_per_gpu, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(max_depth_eval=max_depth)
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=total_batch)
