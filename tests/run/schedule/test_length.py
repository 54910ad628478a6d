"""`--epochs`, `--iters` and `--lr` move all that depends on them, in every recipe."""

from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.run.checks.schedule import check_plan
from milan_mm.run.schedule.length import LEAST_WARM_UP, MOST_INTERVALS, set_length, set_rate
from milan_mm.run.schedule.plan import Plan
from milan_mm.run.schedule.updates import LONGEST_SHARE, is_warm_up
from tests.run.runs import RECIPES, scale_runner, unit_of, with_validation

IMAGES = 85  # 10 updates in an epoch
IN_ITERATIONS = [recipe for recipe in RECIPES if recipe.startswith(("det/", "seg/", "depth/"))]


def of_length(cfg: Config, length: int) -> Config:
    """The recipe in fast motion, with its own option."""
    lengths = dict(epochs=None, iters=None) | {unit_of(cfg): length}
    set_length(cfg, **lengths)
    return cfg


def planned(cfg: Config, work_dir: Path) -> Plan:
    cfg = Config(cfg.to_dict())
    settings = with_validation() if cfg.get("val_evaluator") else {}
    return Plan.of(scale_runner(cfg, work_dir, images=IMAGES, **settings))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_of_200_updates_warms_up_falls_validates_and_saves_as_the_recipe_does(
    recipe: str, tmp_path: Path
):
    cfg = load(recipe)
    lr, (first, *others) = cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler
    in_updates, warm_up_before = (
        not first.get("by_epoch", True),
        first.get("end") if is_warm_up(first) else None,
    )
    before = cfg.train_cfg.get("max_iters") or cfg.train_cfg.max_epochs
    plan = planned(of_length(cfg, 200 if recipe in IN_ITERATIONS else 20), tmp_path)
    assert plan.updates.total == 200
    check_plan(plan)
    overlap = any(not other.get("begin") for other in others)  # falls while it warms up
    assert plan.highest_lr == pytest.approx(lr, rel=0.25 if overlap else 1e-9)
    assert plan.last_lr <= 0.02 * lr
    if warm_up_before is None:
        assert not plan.warmup_updates
    elif in_updates and recipe not in IN_ITERATIONS:  # of an unknown number: not longer than it is
        expected = min(warm_up_before * min(20 / before, 1), LONGEST_SHARE * 200)
        assert plan.warmup_updates == pytest.approx(expected, abs=1)
    else:
        expected = 200 * max(warm_up_before / before, LEAST_WARM_UP)
        assert plan.warmup_updates == pytest.approx(expected, abs=2)
    assert bool(plan.evaluations) == bool(cfg.get("val_evaluator"))
    assert plan.evaluations <= 20
    assert 1 <= plan.checkpoints <= 20


@pytest.mark.parametrize("recipe", IN_ITERATIONS)
def test_a_shorter_run_validates_as_often_as_the_recipe_up_to_a_limit(recipe: str, tmp_path: Path):
    cfg = load(recipe)
    between = cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval
    evaluated, saved = (-(-cfg.train_cfg.max_iters // updates) for updates in between)
    plan = planned(of_length(cfg, 200), tmp_path)
    assert plan.evaluations == min(evaluated, MOST_INTERVALS)
    assert plan.checkpoints == min(saved, MOST_INTERVALS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_other_unit_is_refused_with_the_option_of_the_recipe(recipe: str):
    cfg = load(recipe)
    right = unit_of(cfg)
    wrong = dict(iters="epochs", epochs="iters")[right]
    before = cfg.to_dict()
    with pytest.raises(ValueError, match=f"--{wrong} 7: the recipe counts .* pass --{right} N"):
        set_length(cfg, **{right: None, wrong: 7})
    assert cfg.to_dict() == before


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_rate_scales_the_schedule_and_keeps_the_lowest_rate(recipe: str):
    cfg = load(recipe)
    before = cfg.optim_wrapper.optimizer.lr
    lowest = [s.eta_min_ratio * before for s in cfg.param_scheduler if "eta_min_ratio" in s]
    set_rate(cfg, 2 * before)
    assert cfg.optim_wrapper.optimizer.lr == 2 * before
    ratios = [s.eta_min_ratio for s in cfg.param_scheduler if "eta_min_ratio" in s]
    assert [2 * before * ratio for ratio in ratios] == pytest.approx(lowest)


def test_a_rate_below_the_lowest_is_refused():
    cfg = load("cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k")
    with pytest.raises(ValueError, match=r"--lr 1e-06 is not above 1e-06, .* falls"):
        set_rate(cfg, 1e-6)


def test_without_an_option_a_recipe_stays_as_it_is():
    cfg = load("cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k")
    before = cfg.to_dict()
    assert set_length(cfg, None, None) == set_rate(cfg, None) == []
    assert cfg.to_dict() == before


def test_forty_thousand_updates_of_segmentation_are_mmsegs_own_schedule():
    cfg = of_length(load("seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"), 40_000)
    schedules = Path(mmseg.__file__).parent / ".mim/configs/_base_/schedules"
    own = Config.fromfile(schedules / "schedule_40k.py")
    assert cfg.train_cfg.val_interval == own.train_cfg.val_interval
    assert cfg.default_hooks.checkpoint.interval == own.default_hooks.checkpoint.interval


def test_steps_keep_their_shares_of_the_run():
    cfg = of_length(load("det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"), 88_750)
    published = load("det/mask-rcnn_vit-base-p16_8xb2-amp-lsj-12e_coco")
    assert cfg.param_scheduler == published.param_scheduler
