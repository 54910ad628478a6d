"""`--data` on every recipe of configs/: model and data sets build, with one number of classes."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import nn

from milan_mm.run.building import build_without_memory
from milan_mm.run.own_data import set_own_data
from tests.recipes.test_configs import RECIPES, load
from tests.run.own_data.folders import (
    COLOURS,
    coco_folder,
    depth_pairs,
    image_folder,
    label_pairs,
)

WRITERS = dict(
    pretrain=image_folder, cls=image_folder, det=coco_folder, seg=label_pairs, depth=depth_pairs
)
FOREIGN = ("teacher", "rpn_head")  # what has classes of its own, or none


def _dataset_lengths(cfg: Config) -> dict[str, int]:
    lengths = {}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if cfg.get(name):
                dataset = DATASETS.build(cfg[name].dataset)
                lengths[name] = len(dataset)
                if "val_dataloader" in cfg and dataset.metainfo.get("classes"):
                    assert tuple(dataset.metainfo["classes"]) == COLOURS
    return lengths


def _num_classes(model: nn.Module) -> set[int]:
    return {
        module.num_classes
        for name, module in model.named_modules()
        if hasattr(module, "num_classes")
        and isinstance(module.num_classes, int)
        and not any(part in name.split(".") for part in FOREIGN)
    }


# ViT-L differs from ViT-B in numbers, depth has a test of its own
@pytest.mark.parametrize(
    "recipe", [r for r in RECIPES if r.split("/")[0] in WRITERS and "vit-large" not in r]
)
def test_model_and_data_sets_of_every_recipe_build_on_own_data(recipe: str, tmp_path: Path):
    task = recipe.split("/")[0]
    cfg = load(recipe)
    set_own_data(cfg, str(WRITERS[task](tmp_path)))
    lengths = _dataset_lengths(cfg)
    if task == "pretrain":
        assert lengths == dict(train_dataloader=6, test_dataloader=6)
        return
    per_split = 6 if task == "cls" else 2
    assert lengths == dict.fromkeys(
        ("train_dataloader", "val_dataloader", "test_dataloader"), per_split
    )
    if task == "depth":  # which has no classes
        return
    assert _num_classes(build_without_memory(cfg)) == {len(COLOURS)}
