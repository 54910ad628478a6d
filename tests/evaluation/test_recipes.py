"""The recipe of a task fits the encoder, and reads its data where they are."""

from pathlib import Path

import pytest

from milan_mm.configs import load
from milan_mm.evaluation.recipes import Shape, frozen_recipe, recipe, recipe_name, set_data
from milan_mm.evaluation.tasks import TASKS, USUAL, trained
from milan_mm.models.vit_options import ARCHS
from milan_mm.run.building import build_without_memory
from milan_mm.weights.recognising import recognise
from tests.helpers import tiny_vit

BASE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)
LARGE = Shape(**ARCHS["large"], patch_size=16, img_size=224, with_cls_token=True)
NARROW = Shape(48, 4, 3, patch_size=16, img_size=64, with_cls_token=True)


@pytest.mark.parametrize("task", trained())
@pytest.mark.parametrize("shape", [BASE, LARGE], ids=["base", "large"])
def test_usual_sizes_get_the_recipes_as_they_are_shipped(task, shape):
    name, cfg = recipe(task, shape)
    assert f"vit-{shape.arch}-p16" in name
    assert cfg.to_dict() == load(name).to_dict()


@pytest.mark.parametrize("task", trained())
def test_another_size_gets_that_of_vit_b_with_its_own_widths(task):
    name, cfg = recipe(task, NARROW)
    assert "vit-w48d4-p16" in name
    cfg.model.backbone.img_size = 64
    model = build_without_memory(cfg)
    assert (model.backbone.embed_dims, model.backbone.num_layers) == (48, 4)
    base = recipe(task, BASE)[1]
    assert cfg.optim_wrapper == base.optim_wrapper and cfg.train_cfg == base.train_cfg


def test_blocks_for_dense_tasks_stand_at_the_ends_of_quarters():
    deep = Shape(48, 24, 3, patch_size=16, img_size=64, with_cls_token=True)
    assert recipe("ade20k", deep)[1].model.backbone.out_indices == (5, 11, 17, 23)
    assert recipe("coco", NARROW)[1].model.backbone.global_layers == (0, 1, 2, 3)


@pytest.mark.parametrize("task", trained())
def test_patches_of_another_size_are_told_by_the_name_alone(task):
    fourteen = Shape(**ARCHS["base"], patch_size=14, img_size=518, with_cls_token=True)
    name, cfg = recipe(task, fourteen)
    assert "vit-base-p14_" in name
    assert cfg.to_dict() == recipe(task, BASE)[1].to_dict()


def test_too_few_blocks_are_refused():
    shallow = Shape(48, 3, 3, patch_size=16, img_size=64, with_cls_token=True)
    with pytest.raises(ValueError, match="3 blocks, the recipes need 4"):
        recipe("ade20k", shallow)


def test_the_usual_tasks_are_those_of_version_0_1():
    assert USUAL == ("knn", "linear", "finetune", "coco", "ade20k")
    assert [task for task in TASKS if task in USUAL] == list(USUAL)


def test_a_shape_is_that_of_the_file():
    encoder = recognise(tiny_vit().state_dict(), "a.pth", num_heads=4)
    assert Shape.of(encoder) == Shape(48, 3, 4, patch_size=8, img_size=32, with_cls_token=True)
    with pytest.raises(ValueError, match="pass --num-heads"):
        Shape.of(recognise(tiny_vit().state_dict(), "a.pth"))


def test_a_frozen_recipe_says_what_its_features_depend_on():
    without = Shape(**ARCHS["base"], patch_size=16, img_size=384, with_cls_token=False)
    name, settings = frozen_recipe("knn", BASE, "cls_token")
    assert (name, settings["feature"]) == ("knn_vit-base-p16", "cls_token")
    other = settings | dict(feature="avg", img_size=384)
    assert frozen_recipe("knn", without, "avg")[1] == other


@pytest.mark.parametrize("task", trained())
def test_all_data_are_read_below_the_root(task):
    cfg = recipe(task, BASE)[1]
    set_data(cfg, Path("/scratch/sets"))
    assert "'data/" not in cfg.pretty_text
    roots = {cfg[f"{split}_dataloader"].dataset.data_root for split in ("train", "val", "test")}
    (root,) = roots
    assert root.startswith("/scratch/sets/")


@pytest.mark.parametrize("task", trained())
def test_the_unit_of_a_task_is_that_of_its_recipe(task: str):
    by_iters = "max_iters" in load(recipe_name(task, "base")).train_cfg
    assert by_iters == (TASKS[task].unit == "iters")
