"""The plan of a run is what the run then does, and one that makes no sense is refused."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from milan_mm.run.checks.schedule import check_plan
from milan_mm.run.schedule.plan import Plan
from tests.run.runs import scale_runner, with_validation

COSINE = [
    dict(type="LinearLR", start_factor=1e-9, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=5, T_max=4, convert_to_iter_based=True),
]
OVERLAP = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=20),
    dict(type="CosineAnnealingLR", T_max=5, eta_min=0.0, convert_to_iter_based=True),
]
STEPS = [
    dict(type="milan_mm.WarmupLR", start_factor=0.001, by_epoch=False, end=10),
    dict(type="MultiStepLR", by_epoch=False, milestones=[80, 90], gamma=0.1),
]
# as YOLOX's schedule ends, and a decay in two parts
CONSTANT_END = [
    dict(type="CosineAnnealingLR", T_max=9, end=9, eta_min=1e-4, convert_to_iter_based=True),
    dict(type="ConstantLR", factor=1.0, begin=9, end=10),
]
TWO_DECAYS = [
    dict(type="CosineAnnealingLR", T_max=5, end=5, eta_min=1e-4),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.1, begin=5, end=10),
]
SAVES = dict(type="CheckpointHook", interval=1)


def recipe(schedule: list[dict], checkpoint: dict | None = SAVES, **loop: object) -> Config:
    """A recipe of 1 or 2 processes for 35 images at a total batch of 8."""
    kind = "IterBasedTrainLoop" if "max_iters" in loop else "EpochBasedTrainLoop"
    return Config(
        dict(
            train_cfg=dict(type=kind, **loop),
            param_scheduler=schedule,
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
            default_hooks=dict(checkpoint=checkpoint),
        )
    )


@pytest.mark.parametrize(
    "loop",
    [
        dict(max_epochs=4),
        dict(max_epochs=5, val_interval=2),
        dict(max_epochs=4, val_begin=3),
        dict(max_epochs=6, val_interval=4, dynamic_intervals=[(4, 1)]),
        dict(max_iters=16, val_interval=5),
        dict(max_iters=16, val_interval=20),
        dict(max_iters=15, val_interval=5, val_begin=6),
        dict(max_iters=16, val_interval=7, dynamic_intervals=[(5, 3), (10, 2)]),
        dict(max_iters=6, val_begin=7),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "checkpoint",
    [
        dict(interval=1),
        dict(interval=3, save_begin=2),
        dict(interval=-1, save_last=True),
        dict(interval=9, by_epoch=False, save_last=False),
        dict(interval=4, by_epoch=False, save_begin=5),
    ],
    ids=str,
)
def test_evaluations_and_checkpoints_are_as_many_as_planned(
    loop: dict, checkpoint: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cfg = recipe([], dict(type="CheckpointHook", **checkpoint), **loop)
    runner = scale_runner(cfg, tmp_path, split=(1, 2), **with_validation())
    plan = Plan.of(runner)
    done: list[str] = []
    monkeypatch.setattr(Runner, "save_checkpoint", lambda *_, **__: done.append("file"))
    monkeypatch.setattr(type(runner.val_loop), "run", lambda _: done.append("evaluation"))
    runner.train()
    assert plan.evaluations == done.count("evaluation")
    assert plan.checkpoints == done.count("file")


def test_a_plan_tells_data_length_rates_and_files(tmp_path: Path):
    cfg = recipe(COSINE, dict(type="CheckpointHook", interval=1, max_keep_ckpts=3), max_epochs=5)
    plan = Plan.of(scale_runner(cfg, tmp_path, split=(1, 4), **with_validation(3)))
    check_plan(plan)
    assert plan.lines() == [
        "plan: 35 training images, 3 for validation",
        "plan: 20 updates of 8 images, 5 epochs of 4; each update is computed in 4 parts; the log "
        "counts every part as an iteration",
        "plan: learning rate up to 0.001 after a warm-up of 3 updates (15 %), 9.607e-06 in the "
        "last update",
        "plan: 5 evaluations, 5 checkpoints (keeps the last 3)",
    ]
    assert plan.schedule == dict(
        updates=20,
        updates_per_epoch=4,
        epochs=5,
        warmup_updates=3,
        highest_lr=pytest.approx(1e-3),
        last_lr=pytest.approx(9.607e-6, rel=1e-3),
    )


@pytest.mark.parametrize(
    ("schedule", "loop", "images", "message"),
    [
        # a length that leaves the schedule behind
        (
            COSINE,
            dict(max_epochs=3),
            35,
            r"\[1\] .*lasts until epoch 5, the run until 3: .*--epo",
        ),
        (
            COSINE,
            dict(max_epochs=8),
            35,
            r"\[1\] .*lasts until epoch 5, the run until 8: .* --epochs N",
        ),
        (OVERLAP, dict(max_epochs=15), 50, r"falls to .* climbs again to .* pass --epochs N"),
        (
            OVERLAP,
            dict(max_epochs=5),
            9,
            r"\[0\] .* update 19, the run until 5: state the run's length by --epochs 5, or",
        ),
        (
            OVERLAP,
            dict(max_epochs=5),
            47,
            r"warm-up of 19 updates is more than half .*--epochs 5, or",
        ),
        (
            OVERLAP,
            dict(max_epochs=3),
            9,
            r"\[0\] .* until 3: pass --epochs 5 or more, which limits",
        ),
        (
            STEPS,
            dict(max_iters=50),
            35,
            r"\[1\] .* until update 91, the run until 50: pass --iters N",
        ),
        (
            STEPS,
            dict(max_iters=5),
            35,
            r"\[0\] .* until update 10, the run until 5: pass --iters N",
        ),
        (
            [dict(type="MultiStepLR", end=12, milestones=[8, 11])],
            dict(max_epochs=24),
            35,
            r"lasts until epoch 12, the run until 24: pass --epochs N",
        ),
        # the last of two parts
        (TWO_DECAYS, dict(max_epochs=15), 35, r"\[1\] .* until epoch 10, the run until 15"),
        # a unit that the loop does not count
        ([dict(type="MultiStepLR", milestones=[8])], dict(max_iters=90), 35, "would never move"),
        # a scheduler that mmengine refuses
        (
            [dict(type="LinearLR", by_epoch=False, begin=9, end=9)],
            dict(max_iters=90),
            35,
            r"param_scheduler\[0\] \(LinearLR\) does not fit a run of 90 updates: .*end should be",
        ),
        # too few images
        (
            [],
            dict(max_epochs=100),
            7,
            r"7 training images make no update of 8 .* total_batch=1 --lr",
        ),
        ([], dict(max_iters=100), 7, r"7 training images make no update of 8"),
        (
            [],
            dict(max_epochs=1),
            35,
            r"35 .* of 8 make 4 updates .* fewer than 5: pass --epochs 2",
        ),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_a_remedy(
    schedule: list[dict], loop: dict, images: int, message: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=message):
        check_plan(Plan.of(scale_runner(recipe(schedule, **loop), tmp_path, images=images)))


def test_a_batch_longer_than_the_data_is_refused_with_the_rate_of_the_linear_rule(tmp_path: Path):
    cfg = recipe(COSINE, max_epochs=5)
    runner = scale_runner(cfg, tmp_path, split=(1, 64), images=60, total_batch=1024)
    with pytest.raises(ValueError, match=r"60 .* 1024 images: .* total_batch=8 --lr 7\.81e-06 "):
        check_plan(Plan.of(runner))


@pytest.mark.parametrize(
    ("updates", "text"),
    [(2, "2 updates of 8 images, less than an epoch of 4"), (4, "1 epoch of 4"), (6, "1.5 epochs")],
)
def test_a_plan_of_updates_tells_the_passes_over_the_images(
    updates: int, text: str, tmp_path: Path
):
    plan = Plan.of(scale_runner(recipe([], max_iters=updates), tmp_path))
    assert text in plan.lines()[1]


@pytest.mark.parametrize(
    ("checkpoint", "loop", "message"),
    [
        (SAVES, dict(max_epochs=5, val_begin=6), "would never validate: its train_cfg.val_begin"),
        (dict(SAVES, interval=9, save_last=False), dict(max_epochs=5), "would write no checkpoint"),
    ],
)
def test_a_run_without_a_result_is_refused(
    checkpoint: dict, loop: dict, message: str, tmp_path: Path
):
    runner = scale_runner(recipe([], checkpoint, **loop), tmp_path, **with_validation())
    with pytest.raises(ValueError, match=message):
        check_plan(Plan.of(runner))


@pytest.mark.parametrize(
    ("schedule", "loop"),
    [
        ([], dict(max_epochs=5)),
        (OVERLAP[:1], dict(max_epochs=12)),  # constant after its warm-up
        (STEPS, dict(max_iters=100)),
        (CONSTANT_END, dict(max_epochs=10)),
        (TWO_DECAYS, dict(max_epochs=10)),
        ([dict(type="ExponentialLR", gamma=0.9)], dict(max_epochs=20)),
        (
            [dict(type="CosineRestartLR", periods=[4] * 5, restart_weights=[1] * 5, eta_min=0.0)],
            dict(max_epochs=20),
        ),
        (
            [dict(type="OneCycleLR", eta_max=1.0, total_steps=100, by_epoch=False)],
            dict(max_iters=100),
        ),
        ([dict(type="ReduceOnPlateauLR", monitor="nothing")], dict(max_epochs=5)),
    ],
    ids=str,
)
def test_what_a_user_may_want_is_not_refused(schedule: list[dict], loop: dict, tmp_path: Path):
    plan = Plan.of(scale_runner(recipe(schedule, **loop), tmp_path))
    check_plan(plan)
    assert len(plan.lines()) == 4


def test_a_warm_up_of_one_update_is_left_out_instead_of_staying_at_its_start(tmp_path: Path):
    plan = Plan.of(scale_runner(recipe(COSINE, max_epochs=5), tmp_path, images=15))
    assert plan.updates.per_epoch == 1
    assert plan.rates[0] == plan.highest_lr == 1e-3
