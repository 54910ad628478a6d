"""The finetuning recipe is alive from files to accuracy: it learns 64 images by heart."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from milan_mm.configs import find_config
from milan_mm.data.shapes_files import write_shapes

RECIPE = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
NUM_IMAGES, SIDE, EPOCHS, BATCH, LR = 64, 96, 60, 16, 2e-3


def small_recipe(images: Path, work_dir: Path, num_classes: int) -> Config:
    """The recipe with a small ViT and small images; validation is on the training images."""
    cfg = Config.fromfile(find_config(RECIPE))
    arch = dict(embed_dims=192, num_layers=4, num_heads=6)
    cfg.model.backbone.update(arch=arch, img_size=SIDE)
    cfg.model.head.update(in_channels=192, num_classes=num_classes)
    cfg.model.data_preprocessor.num_classes = num_classes
    for loader, batch in ((cfg.train_dataloader, BATCH), (cfg.val_dataloader, NUM_IMAGES)):
        loader.update(batch_size=batch, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(images), data_prefix="train")
        for transform in loader.dataset.pipeline:
            for key in {"scale", "crop_size"} & set(transform):
                transform[key] = SIDE
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.val_evaluator.topk = (1,)
    cfg.optim_wrapper.type = "OptimWrapper"  # bfloat16 is slow on many CPUs
    cfg.optim_wrapper.optimizer.lr = LR
    warmup, cosine = cfg.param_scheduler
    warmup.end = cosine.begin = 5
    cosine.end, cosine.T_max = EPOCHS, EPOCHS - 5
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    cfg.default_hooks.checkpoint.interval = -1
    cfg.work_dir = str(work_dir)
    cfg.log_level = "ERROR"
    return cfg


@pytest.mark.long
def test_finetuning_learns_64_images_by_heart(tmp_path):
    write_shapes(tmp_path / "shapes", NUM_IMAGES, 1, 1, progress=False, classes="colour")
    images = tmp_path / "shapes/imagenet"
    num_classes = len(list((images / "train").iterdir()))
    runner = Runner.from_cfg(small_recipe(images, tmp_path / "run", num_classes))
    runner.train()
    assert len(runner.val_dataloader.dataset) == NUM_IMAGES
    assert runner.message_hub.get_scalar("val/accuracy/top1").current() == 100.0
