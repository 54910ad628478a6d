"""The finetuning pipeline lives: a small ViT learns 64 photos by heart, each a class of its own."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.training import train

RECIPE = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
NUM_IMAGES, SIDE, BATCH = 64, 64, 16  # images, pixels, images
EMBED_DIMS = 192
NUM_EPOCHS, WARMUP_EPOCHS = 300, 10


def link_photos(source: Path, folder: Path) -> None:
    """Show the first class folders of a data set, which hold one photo each."""
    folder.mkdir()
    for class_folder in sorted(source.iterdir())[:NUM_IMAGES]:
        (folder / class_folder.name).symlink_to(class_folder.resolve(), target_is_directory=True)


def small_recipe(images: Path, work_dir: Path) -> Config:
    """The ViT-B recipe with a small ViT and small images; validation is on the training images.

    All of its augmentation stays, but a crop holds at least half of its photo; float32, since
    bfloat16 is slow on many CPUs.
    """
    cfg = load(RECIPE)
    arch = dict(embed_dims=EMBED_DIMS, num_layers=4, num_heads=6)
    cfg.model.backbone.update(arch=arch, img_size=SIDE, patch_size=8, drop_path_rate=0.0)
    cfg.model.head.update(in_channels=EMBED_DIMS, num_classes=NUM_IMAGES)
    cfg.model.data_preprocessor.num_classes = NUM_IMAGES
    for name in ("train_dataloader", "val_dataloader"):
        loader = cfg[name]
        loader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(images), data_prefix="")
        for transform in loader.dataset.pipeline:
            transform.update({k: SIDE for k in ("scale", "crop_size") if k in transform})
            if transform.type == "milan_mm.LoadRandomResizedCrop":
                transform.crop_ratio_range = (0.5, 1.0)
    cfg.val_evaluator.topk = (1,)
    cfg.optim_wrapper.type = "OptimWrapper"
    cfg.optim_wrapper.optimizer.lr = 2e-3
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0  # nothing is pretrained
    warmup, cosine = cfg.param_scheduler
    warmup.end = cosine.begin = WARMUP_EPOCHS
    cosine.update(end=NUM_EPOCHS, T_max=NUM_EPOCHS - WARMUP_EPOCHS)
    cfg.train_cfg.update(max_epochs=NUM_EPOCHS, val_interval=NUM_EPOCHS)
    cfg.default_hooks.checkpoint.interval = -1
    cfg.work_dir, cfg.launcher = str(work_dir), "none"
    return cfg


@pytest.mark.long
@pytest.mark.overfit
def test_64_photos_are_learnt_by_heart(repo_root: Path, tmp_path: Path):
    photos = repo_root / "data/imagenet/train"
    if not photos.is_dir():
        pytest.skip("data/imagenet is not there")
    link_photos(photos, tmp_path / "photos")
    runner = train(small_recipe(tmp_path / "photos", tmp_path / "run"), None, [])
    assert len(runner.val_dataloader.dataset) == NUM_IMAGES
    assert runner.message_hub.get_scalar("val/accuracy/top1").current() == 100  # %
