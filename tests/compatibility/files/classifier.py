auto_scale_lr = dict(base_batch_size=4)
base_lr = 0.008
batch_per_gpu = 4
custom_hooks = [
    dict(type='milan_mm.LossHook'),
    dict(type='milan_mm.SampleSeedHook'),
    dict(type='milan_mm.UnreadableImagesHook'),
    dict(type='milan_mm.LoadingTimeHook'),
]
custom_imports = dict(imports=[
    'milan_mm.register',
])
default_hooks = dict(
    checkpoint=dict(
        backend_args=dict(backend='atomic_local'),
        interval=-1,
        max_keep_ckpts=3,
        save_last=True,
        save_optimizer=False,
        save_param_scheduler=False,
        type='CheckpointHook'),
    logger=dict(interval=1, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmpretrain'
embed_dims = 128
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
gpus = 1
img_size = 96
launcher = 'none'
load_from = None
log_level = 'INFO'
log_processor = dict(window_size=50)
max_epochs = 5
model = dict(
    backbone=dict(
        arch=dict(embed_dims=8, num_heads=2, num_layers=1),
        final_norm=False,
        img_size=96,
        init_cfg=dict(
            checkpoint='encoder.safetensors',
            report='classify/encoder_weights.json',
            type='milan_mm.EncoderWeights'),
        out_type='avg_featmap',
        patch_size=8,
        type='milan_mm.PlainViT'),
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        std=[
            58.395,
            57.12,
            57.375,
        ],
        to_rgb=True),
    head=dict(
        in_channels=8,
        init_cfg=dict(layer='Linear', std=0.02, type='TruncNormal'),
        loss=dict(
            label_smooth_val=0.1, mode='original', type='LabelSmoothLoss'),
        num_classes=2,
        type='LinearClsHead'),
    type='ImageClassifier')
num_classes = 8
optim_wrapper = dict(
    accumulative_counts=1,
    constructor='milan_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ), lr=0.02, type='AdamW', weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        no_decay_1d=True,
        no_decay_names=[
            'pos_embed',
            'cls_token',
        ]),
    type='OptimWrapper')
param_scheduler = None
randomness = dict(diff_rank_seed=False, seed=0)
resume = False
shapes_stats = dict(
    mean=[
        123.675,
        116.28,
        103.53,
    ], std=[
        58.395,
        57.12,
        57.375,
    ])
test_cfg = dict()
test_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_prefix='val',
        data_root='images',
        pipeline=[
            dict(type='milan_mm.LoadImage'),
            dict(
                backend='pillow',
                edge='short',
                interpolation='bicubic',
                scale=96,
                type='ResizeEdge'),
            dict(crop_size=96, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(topk=(1, ), type='Accuracy')
test_pipeline = [
    dict(type='milan_mm.LoadImage'),
    dict(
        backend='pillow',
        edge='short',
        interpolation='bicubic',
        scale=96,
        type='ResizeEdge'),
    dict(crop_size=96, type='CenterCrop'),
    dict(type='PackInputs'),
]
total_batch = 4
train_cfg = dict(max_epochs=10, type='EpochBasedTrainLoop', val_interval=10)
train_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_prefix='train',
        data_root='images',
        pipeline=[
            dict(type='milan_mm.SeedSample'),
            dict(type='milan_mm.LoadImage'),
            dict(
                backend='pillow',
                crop_ratio_range=(
                    0.4,
                    1.0,
                ),
                interpolation='bicubic',
                scale=96,
                type='RandomResizedCrop'),
            dict(prob=0.5, type='RandomFlip'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    drop_last=True,
    num_workers=0,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(type='milan_mm.SeedSample'),
    dict(type='milan_mm.LoadImage'),
    dict(
        backend='pillow',
        crop_ratio_range=(
            0.4,
            1.0,
        ),
        interpolation='bicubic',
        scale=96,
        type='RandomResizedCrop'),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PackInputs'),
]
val_cfg = dict()
val_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_prefix='val',
        data_root='images',
        pipeline=[
            dict(type='milan_mm.LoadImage'),
            dict(
                backend='pillow',
                edge='short',
                interpolation='bicubic',
                scale=96,
                type='ResizeEdge'),
            dict(crop_size=96, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(topk=(1, ), type='Accuracy')
visualizer = dict(
    type='mmengine.Visualizer', vis_backends=[
        dict(type='LocalVisBackend'),
    ])
warmup_iters = 20
work_dir = 'classify'
