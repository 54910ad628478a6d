"""What a refusal tells a user to type is accepted when it is typed."""

import re
from pathlib import Path

import pytest
from mmengine.runner import Runner

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.run.checks.schedule import check_plan
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.quick import make_quick
from milan_mm.run.run_options import RunOptions
from milan_mm.run.schedule.plan import Plan
from tests.run.own_data.folders import image_folder
from tests.run.runs import RUN_NUMBERS, Scale

RECIPES = [
    "pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes",
    "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes",
]


def folder_of(path: Path, images: int) -> str:
    """So many training images, of 2 classes."""
    return str(image_folder(path / "photos", ("cat", "dog"), images // 2))


def plan_of(recipe: str, work_dir: Path, data: str, **options: object) -> Plan:
    """The plan of a recipe on a folder, as tools/train.py makes it but for the model."""
    cfg = load(recipe)
    prepare(cfg, RunOptions(data=data, work_dir=str(work_dir), **options), TRAINING)
    cfg.model = dict(type=Scale)
    cfg.optim_wrapper.pop("constructor", None)
    cfg.optim_wrapper.pop("paramwise_cfg", None)
    cfg.custom_hooks = []
    cfg.experiment_name = f"remedy-{next(RUN_NUMBERS)}"
    plan = Plan.of(Runner.from_cfg(cfg))
    check_plan(plan)
    return plan


def typed(message: str) -> dict:
    """The options that a message names."""
    epochs = re.search(r"--epochs (\d+)", message)
    lr = re.search(r"--lr (\S+)", message)
    return dict(
        epochs=epochs and int(epochs[1]),
        lr=lr and float(lr[1]),
        cfg_options=re.findall(r"total_batch=\d+", message),
    )


@pytest.mark.parametrize("images", [8, 20, 64])
@pytest.mark.parametrize("epochs", [None, 1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_on_few_images_is_refused_at_most_once(
    recipe: str, epochs: int | None, images: int, tmp_path: Path
):
    data = folder_of(tmp_path, images)
    try:
        plan_of(recipe, tmp_path / "first", data, epochs=epochs)
    except UserError as error:
        options = dict(epochs=epochs) | {k: v for k, v in typed(str(error)).items() if v}
        assert options != dict(epochs=epochs)
        plan = plan_of(recipe, tmp_path / "second", data, **options)
        assert plan.warmup_updates < 0.5 * plan.updates.total


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_trial_on_few_images_needs_no_other_option(recipe: str, tmp_path: Path):
    plan = plan_of(recipe, tmp_path, folder_of(tmp_path, 64), shorten=make_quick)
    assert plan.updates.total == 4


@pytest.mark.parametrize("epochs", [1, 3, 15, 30])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_warm_up_of_updates_is_limited_to_a_share_of_the_run(
    recipe: str, epochs: int, tmp_path: Path
):
    data = folder_of(tmp_path, 256)
    plan = plan_of(recipe, tmp_path, data, epochs=epochs)
    assert plan.warmup_updates <= max(0.1 * plan.updates.total, 1)
