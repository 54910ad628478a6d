"""`--quick` makes a short run of every recipe."""

from pathlib import Path

import pytest
from mmengine.registry import DATA_SAMPLERS, DATASETS, DefaultScope

from milan_mm.configs import list_configs, load
from milan_mm.run.quick import ITERATIONS, make_quick
from tests.run.own_data.folders import image_folder


def _sizes(node: object) -> list:
    """Every size of an image or model in a config, in order."""
    if isinstance(node, dict):
        keys = ("scale", "crop_size", "size", "img_size", "embed_dims", "num_layers")
        own = [node[key] for key in keys if key in node]
        return own + [size for value in node.values() for size in _sizes(value)]
    return [s for v in node for s in _sizes(v)] if isinstance(node, (list, tuple)) else []


@pytest.mark.parametrize("name", list_configs())
def test_every_recipe_shrinks_to_a_few_iterations_and_keeps_its_sizes(name: str):
    recipe, cfg = load(name), load(name)
    notes = make_quick(cfg, world_size=2)
    assert "4 iterations" in notes[0]
    iterations = cfg.train_cfg.get("max_iters") or cfg.train_dataloader.num_batch_per_epoch
    assert iterations == ITERATIONS
    assert cfg.train_dataloader.batch_size in (1, 2)
    assert cfg.train_dataloader.num_workers == 0
    assert cfg.optim_wrapper.optimizer == recipe.optim_wrapper.optimizer
    assert _sizes(cfg.model) == _sizes(recipe.model)
    assert _sizes(cfg.train_dataloader) == _sizes(recipe.train_dataloader)
    assert all(s.end <= ITERATIONS and not s.by_epoch for s in cfg.param_scheduler)
    assert max(s.end for s in cfg.param_scheduler) == ITERATIONS
    if cfg.get("val_dataloader"):
        # enough for two processes, even when the data set is a single image
        assert cfg.val_dataloader.sampler.num_samples == 2 * cfg.val_dataloader.batch_size


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
def test_a_trial_sees_every_class_of_a_sorted_data_set(tmp_path: Path, loader: str):
    classes = tuple("abcd")
    cfg = load("cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.update(data_root=str(image_folder(tmp_path, classes)), pipeline=[])
    make_quick(cfg, world_size=1)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(cfg[loader].dataset)
        positions = range(len(dataset))
        if loader != "train_dataloader":
            positions = DATA_SAMPLERS.build(cfg[loader].sampler, default_args=dict(dataset=dataset))
            assert len(positions) == cfg[loader].batch_size
    labels = [dataset.get_data_info(i)["gt_label"] for i in positions]
    assert labels == [0, 0, 1, 1, 2, 2, 3, 3]
    assert labels == [dataset[i]["gt_label"] for i in positions]
    assert dataset.metainfo["classes"] == classes


@pytest.mark.parametrize(
    ("pretrained", "in_trial"), [("openai", "random"), ("shipped", "shipped"), (__file__, __file__)]
)
def test_only_weights_that_need_a_download_become_random(pretrained: str, in_trial: str):
    cfg = load("milan_vit-base-p16_8xb512-amp-coslr-400e_in1k")
    cfg.model.head.teacher.pretrained = pretrained
    notes = make_quick(cfg, world_size=1)
    assert cfg.model.head.teacher.pretrained == in_trial
    assert len(notes) == 1 + (pretrained != in_trial)
