"""What every pretraining and classification run shares."""

custom_imports = dict(imports=["milan_mm.register"])
default_scope = "mmpretrain"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=1,
        max_keep_ckpts=3,
        backend_args=dict(backend="atomic_local"),  # a torn write never costs the last good file
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [
    dict(type="milan_mm.LossHook"),
    dict(type="milan_mm.SampleSeedHook"),
    dict(type="milan_mm.UnreadableImagesHook"),
    dict(type="milan_mm.LoadingTimeHook"),
    dict(type="milan_mm.SpeedHook"),
    dict(type="milan_mm.GradientNormHook"),
]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo without a GPU, see milan_mm/run/machine.py
)
# one seed for all processes: masks and augmentation are drawn for the total batch
randomness = dict(seed=0, diff_rank_seed=False)
visualizer = dict(type="mmengine.Visualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(window_size=50)
log_level = "INFO"
load_from = None
resume = False
