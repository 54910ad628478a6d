"""The segmentation pipelines live: a small ViT learns eight scenes by heart."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.evaluation.tasks import of_kind
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import test as evaluate
from milan_mm.run.training import train
from milan_mm.shapes.scenes import dense_labels, render_scene
from tests.dense_layouts import LAYOUTS, write_layout
from tests.seg_helpers import narrow_mask2former, shorten

SIZE, WIDTH = 64, 96
# Recipe's kind -> updates, and the mIoU that the eight scenes must reach.
UPDATES = {"upernet": (400, 95), "linear-head": (400, 50), "mask2former": (400, 80)}


def small_recipe(task: str, root: Path, work_dir: Path) -> Config:
    """The ViT-B recipe with a small ViT, 64-pixel scenes and a short schedule; all else as it is.

    Its augmentation stays but for the scale and the crop, which eight scenes leave nothing to
    generalise from; float32, since bfloat16 is slow on most CPUs.
    """
    name = recipe_name(task, "base")
    cfg, (updates, _) = load(name), UPDATES[kind_of(name)]
    shorten(cfg)  # 64-pixel crops
    model = cfg.model
    model.backbone.update(
        arch=dict(embed_dims=WIDTH, num_layers=4, num_heads=4), patch_size=4, img_size=SIZE
    )
    if kind_of(name) == "upernet":
        model.backbone.out_indices = (0, 1, 2, 3)
        model.neck.embed_dim = WIDTH
        model.decode_head.update(in_channels=[WIDTH] * 4, channels=32)
        model.auxiliary_head.update(in_channels=WIDTH, channels=32)
    elif kind_of(name) == "mask2former":
        model.backbone.patch_size = 8  # maps and layers of the head take most of the time
        narrow_mask2former(model, WIDTH, num_layers=2)
    else:
        model.neck.embed_dims = WIDTH
        model.decode_head.update(in_channels=WIDTH, channels=WIDTH)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg[name]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ignore_index=255)  # most classes do not occur
        for transform in loader.dataset.pipeline:
            if transform.type == "RandomResize":
                transform.ratio_range = (1.0, 1.0)
            if transform.type == "RandomChoiceResize":
                transform.scales = [SIZE]
            if transform.type in ("RandomResize", "mmseg.Resize"):
                transform.scale = (SIZE, SIZE)
    cfg.train_dataloader.batch_size = cfg.total_batch = 8
    cfg.auto_scale_lr.base_batch_size = 8
    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.pop("modules", None)
    cfg.optim_wrapper.optimizer.lr = 2e-3
    if rules := cfg.optim_wrapper.get("paramwise_cfg"):
        rules.layer_decay_rate = 1.0  # nothing is pretrained
    cfg.train_cfg.update(max_iters=updates, val_interval=updates)
    warm_up, *rest = cfg.param_scheduler
    if rest:
        warm_up.end = rest[0].begin = 20
    cfg.param_scheduler[-1].end = updates
    cfg.default_hooks.checkpoint.interval = updates
    prepare(cfg, RunOptions(work_dir=str(work_dir)), TRAINING)
    return cfg


def kind_of(name: str) -> str:
    return name.partition("/")[2].partition("_")[0]


@pytest.mark.long
@pytest.mark.overfit
@pytest.mark.parametrize("task", of_kind("maps"))
def test_eight_scenes_are_learnt_by_heart(task: str, tmp_path: Path):
    scenes = [render_scene(seed, SIZE) for seed in range(8)]
    # 0 in a scene is what has no class
    pairs = [(scene.image, dense_labels(scene) - 1) for scene in scenes]
    data = next(name for name in LAYOUTS if task.startswith(name))
    root = write_layout(data, tmp_path / "data", pairs)
    train(small_recipe(task, root, tmp_path / "run"), None, [])
    updates, enough = UPDATES[kind_of(recipe_name(task, "base"))]
    checkpoint = str(tmp_path / f"run/iter_{updates}.pth")
    metrics = evaluate(small_recipe(task, root, tmp_path / "test"), checkpoint, [])
    print(f"{task}: mIoU {metrics['mIoU']}")
    assert metrics["mIoU"] >= enough
