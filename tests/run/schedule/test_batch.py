"""The total batch of a recipe holds on any number of processes."""

import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.schedule.batch import apply_total_batch, split_total_batch


def _config(**settings) -> Config:
    fields = dict(
        total_batch=64,
        train_dataloader=dict(batch_size=8),
        optim_wrapper=dict(optimizer=dict(lr=0.1)),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=100),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=50),
            dict(type="MultiStepLR", by_epoch=False, milestones=[700, 900]),
        ],
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100),
            logger=dict(type="LoggerHook", interval=50),
        ),
    )
    return Config(fields | settings)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8, 16, 64])
def test_the_product_is_the_total_and_no_process_exceeds_its_limit(world_size: int):
    batch, accumulation = split_total_batch(64, 8, world_size)
    assert batch * accumulation * world_size == 64
    assert batch <= 8
    assert accumulation == max(1, 8 // world_size)


def test_a_limit_that_does_not_divide_the_share_is_rounded_down_to_one_that_does():
    assert split_total_batch(60, 8, 2) == (6, 5)


def test_an_impossible_split_names_the_nearest_numbers_of_processes():
    with pytest.raises(ValueError, match=r"64 cannot be split evenly over 3 .* use 2 or 4"):
        split_total_batch(64, 8, 3)
    with pytest.raises(ValueError, match=r"use 4$"):
        split_total_batch(4, 8, 5)


@pytest.mark.parametrize(("total", "largest"), [(0, 8), (64, 0)])
def test_empty_batches_are_refused(total: int, largest: int):
    with pytest.raises(ValueError, match="both must be 1 or more"):
        split_total_batch(total, largest, 1)


def test_an_accumulation_beside_the_total_batch_is_refused_instead_of_overwritten():
    cfg = _config(optim_wrapper=dict(optimizer=dict(lr=0.1), accumulative_counts=4))
    with pytest.raises(ValueError, match=r"accumulative_counts=4 .* pass --batch-per-gpu N"):
        apply_total_batch(cfg, world_size=1)


def test_accumulation_stretches_loop_and_hooks_and_leaves_lr_and_schedulers():
    cfg = _config()
    note = apply_total_batch(cfg, world_size=2)
    assert note == "total batch 64 = 8 per process x 2 process(es) x 4 accumulation step(s)"
    assert cfg.optim_wrapper == dict(optimizer=dict(lr=0.1), accumulative_counts=4)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (4000, 400)
    assert cfg.param_scheduler == _config().param_scheduler
    assert cfg.default_hooks.param_scheduler.type == "milan_mm.UpdateSchedulerHook"
    assert cfg.default_hooks.checkpoint.interval == 400
    assert cfg.default_hooks.logger.interval == 50


def test_accumulation_leaves_epochs_alone():
    schedule = [dict(type="CosineAnnealingLR", end=10, T_max=10, convert_to_iter_based=True)]
    cfg = _config(
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=10),
        param_scheduler=schedule,
        default_hooks={},
    )
    apply_total_batch(cfg, world_size=1)
    assert cfg.optim_wrapper.accumulative_counts == 8
    assert cfg.train_cfg.max_epochs == 10
    assert cfg.param_scheduler == schedule


def test_a_hook_that_steps_schedulers_in_every_iteration_is_refused_with_accumulation():
    cfg = _config(default_hooks=dict(param_scheduler=dict(type="MyHook")))
    with pytest.raises(ValueError, match=r"type='MyHook' .* an update has 8"):
        apply_total_batch(cfg, world_size=1)


def test_a_config_without_a_total_batch_is_left_alone():
    cfg = _config()
    cfg.pop("total_batch")
    before = cfg.to_dict()
    assert apply_total_batch(cfg, world_size=1) is None
    assert cfg.to_dict() == before


def test_another_total_batch_is_refused_with_the_rule_from_the_rate_of_the_recipe():
    cfg = load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco")  # 1e-4 for 64 images
    cfg.total_batch, cfg.optim_wrapper.optimizer.lr = 32, 7.0
    with pytest.raises(ValueError, match=r"32 differs from 64, .* lr 0\.0001 .* give LR=5e-05$"):
        apply_total_batch(cfg, world_size=1)


def test_the_framework_s_rescaling_is_refused_because_it_ignores_accumulation():
    cfg = _config(total_batch=64, auto_scale_lr=dict(enable=True, base_batch_size=64))
    with pytest.raises(ValueError, match="leave it off"):
        apply_total_batch(cfg, world_size=1)
