"""UperNet on ADE20K at 512 px with a plain ViT-B/16, tested at one scale.

The settings of mmsegmentation's MAE recipe, without its layer scale and relative position bias;
docs/transfer.md has the origin of each number.
Expect (published, not measured here): mIoU 52.7 for MILAN (arXiv 2208.06049, set-up not stated),
48.1 for MAE with layer scale and relative bias in addition (mmsegmentation's table).
Run: bash tools/dist_train.sh configs/seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512.py 8 \
    --weights ENCODER
"""

_base_ = [
    "../_base_/runtime_dense.py",  # first: mmengine then finds `mmseg::`
    "mmseg::_base_/models/upernet_mae.py",
    "mmseg::_base_/datasets/ade20k.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_160k.py",
]

crop_size, embed_dims, num_classes = (512, 512), 768, 150

model = dict(
    # zeros after normalisation up to the crop, in tests too; a larger image stays as it is
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=16,
        final_norm=False,
        out_indices=(3, 5, 7, 11),
        drop_path_rate=0.1,
    ),
    neck=dict(embed_dim=embed_dims, norm_cfg=dict(type="SyncBN", requires_grad=True)),
    decode_head=dict(in_channels=[embed_dims] * 4, channels=embed_dims, num_classes=num_classes),
    auxiliary_head=dict(in_channels=embed_dims, num_classes=num_classes),
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(crop_size[0] * 2 // 3,) * 2),
)

load_labels = dict(type="milan_mm.LoadLabels", num_classes=num_classes)
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    load_labels,
    dict(
        type="RandomResize",
        _scope_="mmseg",
        scale=(4 * crop_size[0], crop_size[0]),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type="mmseg.RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="mmseg.RandomFlip", prob=0.5),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmseg.PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="milan_mm"),
    dict(type="mmseg.Resize", scale=(4 * crop_size[0], crop_size[0]), keep_ratio=True),
    load_labels,  # after the resize: the ground truth keeps its size
    dict(type="mmseg.PackSegInputs"),
]

gpus, batch_per_gpu, lr = 8, 2, 1e-4
total_batch = gpus * batch_per_gpu
# in the files, 0 is "none of the classes": stated once, and read by LoadLabels
train_dataloader = dict(
    batch_size=batch_per_gpu, dataset=dict(reduce_zero_label=True, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(reduce_zero_label=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=total_batch)

optim_wrapper = dict(
    _delete_=True,
    type="milan_mm.BFloat16OptimWrapper",
    # full-size logits, which the losses make, stay float32: nothing copies them
    modules=["backbone", "neck", "decode_head", "auxiliary_head"],
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.65, no_decay_1d=True, no_decay_names=["pos_embed", "cls_token"]
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, begin=1500, end=160_000, eta_min=0.0, by_epoch=False),
]
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, backend_args=atomic))
