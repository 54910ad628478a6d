"""Mask2Former on ADE20K at 512 px with a plain ViT-B/16 and a simple pyramid, at one scale.

Head, losses, augmentation and length are those of mmsegmentation's Mask2Former recipes, pyramid and
layer decay those of published plain ViTs; docs/transfer.md has the origin of each number.
Expect: no published number for a plain ViT-B without adapter under exactly this protocol;
mmsegmentation's Swin-S, of about this size, has mIoU 51.2 (its table).
Run: bash tools/dist_train.sh \
    seg/mask2former_vit-base-p16_8xb2-amp-160k_ade20k-512x512 8 --weights ENCODER
"""

_base_ = [
    "../_base_/dense_hooks.py",  # first: mmengine then finds `mmseg::`
    "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
]

custom_imports = dict(imports=["milan_mm.register", "mmdet.models"])

crop_size, embed_dims, num_classes = (512, 512), 768, 150
channels = 256  # of every level of the pyramid

model = dict(
    data_preprocessor=dict(size=crop_size),  # and tests to multiples of 32, as in the source
    backbone=dict(
        _delete_=True,
        type="milan_mm.PlainViT",
        arch="base",
        img_size=224,  # of the position table; it is resized to the image bicubically
        patch_size=16,
        final_norm=False,
        out_indices=(-1,),
        drop_path_rate=0.1,
    ),
    neck=dict(
        type="milan_mm.SimpleFeaturePyramid",
        in_channels=embed_dims,
        out_channels=channels,
        num_extra_outs=0,
    ),
    decode_head=dict(in_channels=[channels] * 4, num_classes=num_classes),
)

load_labels = dict(type="milan_mm.LoadLabels", num_classes=num_classes)
train_pipeline = [
    dict(type="milan_mm.LoadImage"),
    load_labels,
    dict(
        type="RandomChoiceResize",
        _scope_="mmseg",
        scales=[crop_size[0] * tenths // 10 for tenths in range(5, 21)],
        resize_type="ResizeShortestEdge",
        max_size=4 * crop_size[0],
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
    modules=["backbone", "neck"],  # deformable attention and matching need float32
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="milan_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.8,
        no_decay_1d=True,
        no_decay_types=["Embedding"],  # queries, and the levels of the pyramid
        no_decay_names=["pos_embed", "cls_token"],
    ),
    clip_grad=dict(max_norm=0.01),
)
atomic = dict(backend="atomic_local")  # a torn write never costs the last good file
default_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type="CheckpointHook",
        by_epoch=False,
        interval=16_000,
        max_keep_ckpts=3,
        backend_args=atomic,
    )
)
