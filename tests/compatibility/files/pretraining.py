auto_scale_lr = dict(base_batch_size=4)
base_lr = 0.004
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
        interval=1,
        max_keep_ckpts=3,
        type='CheckpointHook'),
    logger=dict(interval=1, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmpretrain'
embed_dims = 192
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
gpus = 1
grid = (
    12,
    12,
)
img_size = 96
launcher = 'none'
load_from = None
log_level = 'INFO'
log_processor = dict(window_size=50)
max_epochs = 12
model = dict(
    backbone=dict(
        arch=dict(embed_dims=8, num_heads=2, num_layers=1),
        fixed_pos_embed=True,
        img_size=96,
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
        to_rgb=True,
        type='SelfSupDataPreprocessor'),
    decoder=dict(
        decoder_embed_dims=8,
        embed_dims=8,
        grid_size=(
            12,
            12,
        ),
        num_heads=2,
        num_layers=1,
        target_dims=128,
        type='milan_mm.PromptingDecoder'),
    head=dict(
        teacher=dict(
            grid_size=(
                12,
                12,
            ),
            input_stats=dict(
                mean=[
                    123.675,
                    116.28,
                    103.53,
                ],
                std=[
                    58.395,
                    57.12,
                    57.375,
                ]),
            model_name='shapes-clip',
            pretrained='shipped',
            stats=dict(
                mean=[
                    123.675,
                    116.28,
                    103.53,
                ],
                std=[
                    58.395,
                    57.12,
                    57.375,
                ]),
            type='milan_mm.CLIPTeacher'),
        type='milan_mm.CLIPTargetHead'),
    mask_generator=dict(
        mask_ratio=0.75, type='milan_mm.SemanticMaskGenerator'),
    type='milan_mm.MILAN')
optim_wrapper = dict(
    accumulative_counts=1,
    constructor='milan_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.95,
        ), lr=0.001, type='AdamW', weight_decay=0.05),
    paramwise_cfg=dict(no_decay_1d=True),
    type='OptimWrapper')
param_scheduler = [
    dict(
        convert_to_iter_based=True, end=1, start_factor=1e-09,
        type='LinearLR'),
    dict(
        T_max=11,
        begin=1,
        convert_to_iter_based=True,
        end=12,
        eta_min=0.0,
        type='CosineAnnealingLR'),
]
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
stats = dict(
    mean=[
        123.675,
        116.28,
        103.53,
    ], std=[
        58.395,
        57.12,
        57.375,
    ])
target_dims = 128
teacher = dict(
    grid_size=(
        12,
        12,
    ),
    input_stats=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ], std=[
            58.395,
            57.12,
            57.375,
        ]),
    model_name='shapes-clip',
    pretrained='shipped',
    stats=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ], std=[
            58.395,
            57.12,
            57.375,
        ]),
    type='milan_mm.CLIPTeacher')
total_batch = 4
train_cfg = dict(max_epochs=2, type='EpochBasedTrainLoop')
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
        type='CustomDataset',
        with_label=False),
    drop_last=True,
    num_workers=0,
    persistent_workers=False,
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
visualizer = dict(
    type='mmengine.Visualizer', vis_backends=[
        dict(type='LocalVisBackend'),
    ])
warmup_epochs = 1
work_dir = '.'
