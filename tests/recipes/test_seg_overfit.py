"""The segmentation pipeline lives: a small ViT learns eight scenes by heart."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import test as evaluate
from milan_mm.run.training import train
from milan_mm.shapes.files import write_shapes
from milan_mm.shapes.scenes import DENSE_CLASSES
from tests.seg_helpers import UPERNET, shorten

NUM_ITERS, SIZE = 400, 64


def small_recipe(root: Path, work_dir: Path) -> Config:
    """The ViT-B recipe with a small ViT, 64-pixel scenes and a short schedule; all else as it is.

    Its augmentation stays but for the scale and the crop, which eight scenes leave nothing to
    generalise from; float32, since bfloat16 is slow on most CPUs.
    """
    cfg = load(UPERNET.format("base"))
    shorten(cfg)  # 64-pixel crops
    cfg.model.backbone.update(
        arch=dict(embed_dims=96, num_layers=4, num_heads=4),
        patch_size=4,
        out_indices=(0, 1, 2, 3),
        img_size=SIZE,
    )
    cfg.model.neck.embed_dim = 96
    cfg.model.decode_head.update(in_channels=[96] * 4, channels=32, num_classes=len(DENSE_CLASSES))
    cfg.model.auxiliary_head.update(in_channels=96, channels=32, num_classes=len(DENSE_CLASSES))
    palette = [[10 * i, 20 * i, 30 * i] for i in range(len(DENSE_CLASSES))]
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg[name]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(
            type="BaseSegDataset",
            data_root=str(root / "ade/ADEChallengeData2016"),
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            metainfo=dict(classes=list(DENSE_CLASSES), palette=palette),
        )
        for transform in loader.dataset.pipeline:
            if transform.type == "milan_mm.LoadLabels":
                transform.num_classes = len(DENSE_CLASSES)
            if transform.type == "RandomResize":
                transform.ratio_range = (1.0, 1.0)
    cfg.train_dataloader.batch_size = cfg.total_batch = 8
    cfg.auto_scale_lr.base_batch_size = 8
    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.pop("modules")
    cfg.optim_wrapper.optimizer.lr = 2e-3
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0  # nothing is pretrained
    cfg.train_cfg.update(max_iters=NUM_ITERS, val_interval=NUM_ITERS)
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 20
    cfg.param_scheduler[1].end = NUM_ITERS
    cfg.default_hooks.checkpoint.interval = NUM_ITERS
    prepare(cfg, RunOptions(work_dir=str(work_dir)), TRAINING)
    return cfg


@pytest.mark.long
@pytest.mark.overfit
def test_eight_scenes_are_learnt_by_heart(tmp_path: Path):
    write_shapes(tmp_path / "shapes", 1, 8, 1, size=SIZE, progress=False)
    train(small_recipe(tmp_path / "shapes", tmp_path / "run"), None, [])
    checkpoint = str(tmp_path / f"run/iter_{NUM_ITERS}.pth")
    metrics = evaluate(small_recipe(tmp_path / "shapes", tmp_path / "test"), checkpoint, [])
    assert metrics["mIoU"] >= 95  # measured: 96.7
