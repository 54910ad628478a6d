"""Trainings by `--fsdp`, against DistributedDataParallel, and what it refuses."""

from functools import partial
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS

from benchmarks.reliability.sharding import compare
from milan_mm.errors import UserError
from milan_mm.run.fsdp import RUNNER, WRAPPER, spread_model
from tests.run.pretraining_runs import labelled_images, pretraining_config


def small_pretraining(images: Path, work_dir: Path) -> Config:
    """With dropped paths, two parts to an update, clipping, k-NN, and pictures by one process."""
    return pretraining_config(
        images,
        work_dir,
        **{
            "train_dataloader.batch_size": 1,
            "model.backbone.drop_path_rate": 0.3,
            "optim_wrapper.clip_grad": dict(max_norm=0.5),
            "custom_hooks": [
                dict(type="milan_mm.SampleSeedHook"),
                dict(type="milan_mm.PicturesHook", interval=4),
                dict(type="milan_mm.KnnHook", data=str(images), interval=1, num_workers=0),
            ],
        },
    )


@pytest.mark.long
def test_fsdp_computes_what_ddp_does_with_half_the_bytes_and_goes_on_from_its_checkpoints(tmp_path):
    images = labelled_images(tmp_path / "images")
    found = compare(partial(small_pretraining, images), "epoch_1.pth", tmp_path, "fork")
    assert found.equal == found.total > 50
    assert found.relative < 1e-5 and found.weights < 1e-4
    for rank in range(2):
        assert found.bytes_held["fsdp"][rank] < 0.65 * found.bytes_held["ddp"][rank]
    # nothing is held twice; the counters of the optimizer are in both
    assert sum(found.bytes_held["fsdp"]) == pytest.approx(found.bytes_held["ddp"][0], rel=2e-3)
    assert len([*tmp_path.glob("fsdp/*/vis_data/vis_image/*.png")]) > 1


@HOOKS.register_module(force=True)
class OwnAverage(EMAHook):
    """Of a user."""


def config(**fields: object) -> Config:
    return Config(dict(optim_wrapper=dict(type="OptimWrapper")) | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(model_wrapper_cfg=dict(type="Own")), "type='Own'.*leave out one of the two"),
        (dict(optim_wrapper=dict(type="AmpOptimWrapper")), "take 'milan_mm.BFloat16OptimWrapper'"),
        (dict(custom_hooks=[dict(type="EMAHook")]), "EMAHook keeps a second, whole copy"),
        (dict(custom_hooks=[dict(type="OwnAverage")]), "OwnAverage keeps a second, whole copy"),
        (dict(custom_hooks=[dict(type=OwnAverage)]), "OwnAverage keeps a second, whole copy"),
    ],
)
def test_what_needs_the_whole_model_is_refused(fields: dict, message: str):
    with pytest.raises(UserError, match=message):
        spread_model(config(**fields), True, "pytorch")


def test_one_process_has_nothing_to_spread():
    with pytest.raises(UserError, match=r"a single one: .*tools/dist_train.sh CONFIG GPUS --fsdp"):
        spread_model(config(), True, "none")
    dumped = config(runner_type=RUNNER, model_wrapper_cfg=dict(type=WRAPPER))
    (note,) = spread_model(dumped, False, "none")
    assert note.startswith("one process") and "runner_type" not in dumped


@pytest.mark.parametrize(
    "fields",
    [
        dict(runner_type=RUNNER),
        dict(model_wrapper_cfg=dict(type=WRAPPER, blocks=["Own"])),
        dict(model_wrapper_cfg=dict(type="mmengine.MMDistributedDataParallel", device_ids=None)),
    ],
)
def test_a_config_may_ask_for_it_too(fields: dict):
    cfg = config(**fields)
    assert not spread_model(cfg, "device_ids" in str(fields), "pytorch")
    assert cfg.runner_type == RUNNER and cfg.model_wrapper_cfg.type == WRAPPER
    assert cfg.model_wrapper_cfg.get("blocks") == fields.get("model_wrapper_cfg", {}).get("blocks")


def test_a_wrapper_of_ones_own_is_kept():
    cfg = config(model_wrapper_cfg=dict(type="Own"))
    assert not spread_model(cfg, False, "pytorch")
    assert cfg.model_wrapper_cfg == dict(type="Own") and "runner_type" not in cfg
