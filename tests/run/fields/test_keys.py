"""Keys that nothing reads are refused before anything is built, wherever they stand."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from milan_mm.configs import list_configs, load
from milan_mm.errors import UserError
from milan_mm.run.fields.keys import check_keys, check_new_fields
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions

FINETUNE = "finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
DETECTOR = "mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
SEGMENTOR = "upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
MILAN = "milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes"


@pytest.mark.parametrize("recipe", list_configs())
def test_every_key_of_every_recipe_is_read(recipe: str):
    check_keys(load(recipe))


@pytest.mark.parametrize(
    "config",
    [
        "mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py",
        "mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py",
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "mmdet::vfnet/vfnet_r50_fpn_1x_coco.py",  # hands **kwargs past its base
        "mmdet::detr/detr_r50_8xb2-150e_coco.py",  # takes keys out of its parts
        "mmdet::albu_example/mask-rcnn_r50_fpn_albu-1x_coco.py",  # transforms of another library
        "mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py",
        "mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py",
    ],
)
def test_configs_of_the_frameworks_pass(tmp_path: Path, config: str):
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = {config!r}\n")
    prepare(load(child), RunOptions(), RECIPE)


def test_a_dumped_config_passes(tmp_path: Path):
    cfg = load(DETECTOR)
    prepare(cfg, RunOptions(), RECIPE)
    cfg.dump(tmp_path / "dumped.py")
    prepare(load(tmp_path / "dumped.py"), RunOptions(), RECIPE)


WRONG = [
    (FINETUNE, "train_dataloader.num_worker", 2, "num_workers"),
    (FINETUNE, "train_dataloader.datset.data_root", "x", "dataset"),
    (FINETUNE, "train_dataloader.dataset.data_rot", "x", "data_root"),
    (FINETUNE, "train_dataloader.dataset.pipeline.2.scal", 32, "scale"),
    (FINETUNE, "val_dataloader.sampler.shufle", True, "shuffle"),
    (FINETUNE, "optim_wrapper.optimiser.lr", 1, "optimizer"),
    (FINETUNE, "optim_wrapper.acumulative_counts", 2, "accumulative_counts"),
    (FINETUNE, "optim_wrapper.optimizer.weight_dcay", 1, "weight_decay"),
    (FINETUNE, "optim_wrapper.clip_grad.max_nrm", 1, "max_norm"),
    (FINETUNE, "train_cfg.max_epoch", 3, "max_epochs"),
    (FINETUNE, "train_cfg.val_intervall", 3, "val_interval"),
    (FINETUNE, "param_scheduler.1.eta_mn", 0, "eta_min"),
    (FINETUNE, "default_hooks.checkpoint.intervall", 3, "interval"),
    (FINETUNE, "default_hooks.logger.intervall", 3, "interval"),
    (FINETUNE, "default_hooks.chekpoint.interval", 3, "checkpoint"),
    (FINETUNE, "custom_hooks.0.interval", 3, None),
    (FINETUNE, "val_evaluator.topkk", 3, "topk"),
    (FINETUNE, "randomness.sed", 3, "seed"),
    (FINETUNE, "env_cfg.cudnn_benchmrk", True, "cudnn_benchmark"),
    (FINETUNE, "auto_scale_lr.base_batch", 3, "base_batch_size"),
    (FINETUNE, "log_processor.window_siz", 3, "window_size"),
    (FINETUNE, "visualizer.vis_backend", 3, "vis_backends"),
    (FINETUNE, "model.bakbone.frozen", True, "backbone"),
    (FINETUNE, "model.backbone.drop_path", 0.1, "drop_path_rate"),
    (FINETUNE, "model.head.loss.label_smooth", 0.1, "label_smooth_val"),
    (MILAN, "model.head.teacher.grid", 1, "grid_size"),
    (MILAN, "model.mask_generator.mask_rate", 0.5, "mask_ratio"),
    (DETECTOR, "model.test_cfg.rcnn.score_thrr", 0.5, "score_thr"),
    (DETECTOR, "model.neck.out_chanels", 64, "out_channels"),
    (DETECTOR, "val_evaluator.ann_fil", "x", "ann_file"),
    (DETECTOR, "model.roi_head.bbox_head.num_class", 3, "num_classes"),
    (SEGMENTOR, "model.decode_head.chanels", 64, "channels"),
    (SEGMENTOR, "train_dataloader.dataset.reduce_zero_lable", True, "reduce_zero_label"),
]


@pytest.mark.parametrize(("recipe", "key", "value", "meant"), WRONG, ids=[w[1] for w in WRONG])
def test_a_misspelt_key_is_refused_with_the_nearest_spelling(
    recipe: str, key: str, value: Any, meant: str | None
):
    expected = f"did you mean '{meant}'|there is '{meant}'" if meant else "takes no 'interval'"
    with pytest.raises(UserError, match=expected):
        prepare(load(recipe), RunOptions(cfg_options=[f"{key}={value}"]), RECIPE)


def test_the_same_in_a_file_is_refused():
    cfg = load(FINETUNE)
    cfg.merge_from_dict({"default_hooks.checkpoint.intervall": 3})
    with pytest.raises(
        UserError,
        match=r"default_hooks\.checkpoint\.intervall=3: CheckpointHook takes no 'intervall'; "
        r"did you mean 'interval'\?",
    ):
        check_keys(cfg)


@pytest.mark.parametrize(
    "option",
    [
        "default_hooks.checkpoint.save_best=accuracy/top1",
        "default_hooks.logger.priority=LOW",
        "train_dataloader.prefetch_factor=4",
        "train_dataloader.num_batch_per_epoch=4",
        "optim_wrapper.clip_grad.max_norm=1.0",
        "param_scheduler.1.verbose=True",
        "randomness.deterministic=True",
        "env_cfg.dist_cfg.timeout=60",
        "model.backbone.with_cp=True",
        "find_unused_parameters=True",
        "experiment_name=first",
    ],
)
def test_keys_that_are_read_pass(option: str):
    prepare(load(FINETUNE), RunOptions(cfg_options=[option]), RECIPE)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.backbone.out_indices=[1,2", r"out_indices=\[1,2: Imbalanced brackets"),
        ("img_size=(96,96", r"img_size=\(96,96: Imbalanced brackets"),
        ("param_scheduler.5.end=3", "param_scheduler.5.end=3 cannot be set: Index 5 exceeds"),
        ("param_scheduler.end=3", "param_scheduler.end=3 cannot be set: list indices"),
        ("model.data_preprocessor.mean.0=3", "mean.0=3 cannot be set: .* give the whole list"),
        ("model.backbone.patch_size.x=3", "patch_size.x=3 cannot be set: patch_size="),
    ],
)
def test_an_option_that_cannot_be_set_is_refused_with_the_reason(option: str, message: str):
    with pytest.raises(UserError, match=f"--cfg-options .*{message}"):
        prepare(load(FINETUNE), RunOptions(cfg_options=[option]), RECIPE)


def test_a_type_that_nobody_registered_is_refused_with_the_nearest():
    cfg = load(FINETUNE)
    cfg.optim_wrapper.optimizer.type = "AdamV"
    with pytest.raises(UserError, match="no optimizer has this name; did you mean 'Adam"):
        check_keys(cfg)


@pytest.mark.parametrize(
    "settings",
    [
        dict(runner_type="FlexibleRunner"),
        dict(strategy=dict(type="FSDPStrategy")),
        dict(runner_type="FlexibleRunner", strategy=dict(type="DeepSpeedStrategy")),
    ],
)
def test_another_runner_is_refused(settings: dict):
    cfg = Config(load(FINETUNE).to_dict() | settings, filename=__file__)
    with pytest.raises(UserError, match=r"asks for runner_type=.*tools/dist_train.sh or --launch"):
        check_keys(cfg)


def test_a_new_argument_of_a_class_may_resemble_one_that_is_set():
    cfg = Config(
        dict(part=dict(type="RandomErasing", min_area_ratio=0.1), test_cfg=dict(nms_pre=1))
    )
    check_new_fields(cfg, ["part.max_area_ratio"])
    with pytest.raises(ValueError, match="there is 'nms_pre' and no 'nms_per'"):
        check_new_fields(cfg, ["test_cfg.nms_per"])
