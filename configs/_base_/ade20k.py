"""ADE20K, the 150 classes of its benchmark, in crops of 512 px.

Source: mmsegmentation's `ade20k.py`, and the windows of its recipes.
"""

_base_ = ["mmseg::_base_/datasets/ade20k.py"]

crop_size, num_classes = (512, 512), 150
scale = (4 * crop_size[0], crop_size[0])  # largest long side, short side
stride = (crop_size[0] * 2 // 3,) * 2  # of the windows of a test

load_labels = dict(type="milan_mm.LoadLabels", num_classes=num_classes)
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    load_labels,
    dict(
        type="RandomResize", _scope_="mmseg", scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True
    ),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="mmseg.RandomFlip", prob=0.5),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmseg.Resize", scale=scale, keep_ratio=True),
    load_labels,  # after the resize: the ground truth keeps its size
    dict(type="mmseg.PackSegInputs"),
]

gpus, batch_per_gpu = 8, 2
total_batch = gpus * batch_per_gpu
# in the files, 0 is "none of the classes": stated once, and read by LoadLabels
train_dataloader = dict(
    batch_size=batch_per_gpu, dataset=dict(reduce_zero_label=True, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(reduce_zero_label=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=total_batch)
