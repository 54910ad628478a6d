"""The depth pipeline lives: a linear layer on an untrained ViT learns eight scenes' depths."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import test as evaluate
from milan_mm.run.training import train
from milan_mm.shapes.scenes import dense_labels, render_scene
from tests.dense_layouts import write_layout
from tests.seg_helpers import use_data

SIZE, WIDTH, NUM_ITERS = (60, 80), 96, 300
DEPTHS = np.array([0, 8000, 6500, 5000, 2500, 1200])  # millimetres, by what a scene's pixel shows


def small_recipe(root: Path, work_dir: Path) -> Config:
    """The recipe with a small ViT, scenes of 60 x 80 pixels and a short schedule; not turned."""
    cfg = use_data(load(recipe_name("nyu-depth", "base")), root)
    cfg.model.backbone.update(
        arch=dict(embed_dims=WIDTH, num_layers=4, num_heads=4), patch_size=4, img_size=64
    )
    cfg.model.neck.embed_dims = cfg.model.decode_head.in_channels = WIDTH
    cfg.model.data_preprocessor.update(size=SIZE, test_cfg=dict(size_divisor=4))
    cfg.model.test_cfg.update(crop_size=SIZE, stride=SIZE)
    kept = ("LoadImage", "LoadDepth", "RandomFlip", "PackSegInputs")
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [
        t for t in pipeline if t.type.rpartition(".")[2] in kept
    ]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_prefix = cfg.train_dataloader.dataset.data_prefix
        loader.dataset.pipeline[1].scale = SIZE[::-1]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.crop_type = None
    cfg.train_dataloader.batch_size = cfg.total_batch = 8
    cfg.auto_scale_lr.base_batch_size = 8
    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.pop("modules")
    cfg.optim_wrapper.optimizer.lr = 3e-2
    warm_up, fall = cfg.param_scheduler
    warm_up.end, fall.end = 20, NUM_ITERS
    cfg.train_cfg.update(max_iters=NUM_ITERS, val_interval=NUM_ITERS)
    cfg.default_hooks.checkpoint.interval = NUM_ITERS
    prepare(cfg, RunOptions(work_dir=str(work_dir)), TRAINING)
    return cfg


@pytest.mark.long
@pytest.mark.overfit
def test_the_depths_of_eight_scenes_are_learnt(tmp_path: Path):
    scenes = [render_scene(seed, 80) for seed in range(8)]
    pairs = [(scene.image[:60], DEPTHS[dense_labels(scene)][:60]) for scene in scenes]
    root = write_layout("nyu-depth", tmp_path, pairs)
    depths = np.concatenate([depth[depth > 0] for _, depth in pairs]) / 1000
    train(small_recipe(root, tmp_path / "run"), None, [])
    checkpoint = str(tmp_path / f"run/iter_{NUM_ITERS}.pth")
    metrics = evaluate(small_recipe(root, tmp_path / "test"), checkpoint, [])
    print(f"RMSE {metrics['rmse']:.3f} m, d1 {metrics['d1']:.3f}; a constant {depths.std():.3f} m")
    assert metrics["rmse"] < depths.std() / 2
