"""A resumed run is the continuation of the interrupted one, or it is refused in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from milan_mm.configs import list_configs, load
from milan_mm.errors import UserError
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.records.canonical import config_hash
from milan_mm.run.records.record import record_of
from milan_mm.run.run_options import RunOptions
from milan_mm.run.start.continuation import check_continuation
from milan_mm.run.start.origin import Origin, Start
from milan_mm.run.start.resume import after_restart, find_origin
from tests.forked import in_processes
from tests.run.tiny_runs import SCHEDULES, UPDATES, WatchHook, run_tiny, tiny_config

FINETUNE = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"


class Whole:
    """A run that nothing interrupted, with a checkpoint after every update."""

    def __init__(self, schedule: str, folder: Path) -> None:
        self.schedule, self.folder = schedule, folder
        runner = run_tiny(tiny_config(schedule, folder))
        self.weights = runner.model.state_dict()
        self.rates, self.images = [*WatchHook.rates], [*WatchHook.images]

    def checkpoint(self, update: int) -> str:
        return str(self.folder / f"iter_{update}.pth")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], Whole]:
    runs: dict[str, Whole] = {}

    def run(schedule: str) -> Whole:
        if schedule not in runs:
            runs[schedule] = Whole(schedule, tmp_path_factory.mktemp(schedule))
        return runs[schedule]

    return run


@pytest.mark.parametrize("update", [6, 8], ids=["in an epoch", "after an epoch"])
@pytest.mark.parametrize("batch", [2, 8], ids=["4 parts", "1 part"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_update_has_the_rate_and_the_images_of_the_undisturbed_run(
    whole, schedule: str, batch: int, update: int, tmp_path: Path
):
    run = whole(schedule)
    start = Start(resume=run.checkpoint(update))
    rest = run_tiny(tiny_config(schedule, tmp_path), start, batch_per_gpu=batch)
    assert WatchHook.rates == run.rates[update:]
    assert WatchHook.images == run.images[update:]
    torch.testing.assert_close(rest.model.state_dict(), run.weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "spelling", [dict(by_epoch=True), dict(type="mmengine.EpochBasedTrainLoop")]
)
def test_a_loop_in_another_spelling_resumes_in_an_epoch_as_well(
    whole, spelling: dict, tmp_path: Path
):
    run = whole("epochs")
    cfg = tiny_config("epochs", tmp_path)
    cfg.train_cfg = dict(spelling, max_epochs=4)
    run_tiny(cfg, Start(resume=run.checkpoint(6)))
    assert (WatchHook.rates, WatchHook.images) == (run.rates[6:], run.images[6:])


def test_a_split_that_changes_twice_ends_at_the_same_update(whole, tmp_path: Path):
    run = whole("epochs")
    first, second = tmp_path / "first", tmp_path / "second"
    cfg = tiny_config("epochs", first)
    run_tiny(cfg, Start(resume=run.checkpoint(5)), batch_per_gpu=4)
    # its names count iterations: update 9 is iteration 18 here
    cfg = tiny_config("epochs", second)
    rest = run_tiny(cfg, Start(resume=str(first / "iter_18.pth")), batch_per_gpu=1)
    assert (rest.epoch, rest.iter) == (4, UPDATES * 8)
    assert WatchHook.rates == run.rates[9:]


@pytest.mark.parametrize(
    ("schedule", "length"),
    [("epochs", dict(epochs=5)), ("mixed", dict(epochs=6)), ("iterations", dict(iters=20))],
)
def test_a_longer_run_goes_on_with_the_rates_of_one_of_that_length(
    whole, schedule: str, length: dict, tmp_path: Path
):
    run_tiny(tiny_config(schedule, tmp_path / "long"), **length)
    rates = [*WatchHook.rates]
    start = Start(resume=whole(schedule).checkpoint(UPDATES), new_length=True)
    run_tiny(tiny_config(schedule, tmp_path / "rest"), start, **length)
    assert WatchHook.rates == rates[UPDATES:] != []


def test_a_finished_run_is_said_to_be_finished_and_trains_nothing(whole, tmp_path: Path):
    start = Start(resume=whole("epochs").checkpoint(UPDATES))
    run_tiny(tiny_config("epochs", tmp_path), start)
    assert not WatchHook.rates
    (log,) = tmp_path.glob("*/*.log")
    assert "is the end of this run, after 16 updates: nothing is left to train" in log.read_text()


def record_with(train: dict) -> dict:
    """A record that differs from another one in its training data alone."""
    cfg = tiny_config("epochs", Path("run"))
    return record_of(cfg) | dict(data=dict(train=train))


def begin(cfg: Config, start: Start, **options: Any) -> list[str]:
    """What is found before anything is built."""
    prepare(cfg, RunOptions(**options), TRAINING)
    return find_origin(cfg, start).notes


CHANGES = {
    "optim_wrapper.optimizer.lr": (0.1, "optim_wrapper.optimizer.lr is 0.5 in the checkpoint and"),
    "optim_wrapper.optimizer.momentum": (0.8, "momentum is 0.9 in the checkpoint and 0.8 here"),
    "optim_wrapper.optimizer.weight_decay": (0.1, "weight_decay is None .* and 0.1 here"),
    "optim_wrapper.clip_grad": (dict(max_norm=1.0), "clip_grad.max_norm is None .* and 1.0 here"),
    "optim_wrapper.optimizer.type": ("RMSprop", "optimizer.type is 'SGD' in .* and 'RMSprop' here"),
    "model.drop": (0.1, "model.drop is None in the checkpoint and 0.1 here"),
    "model.num_classes": (5, "num_classes is None in the checkpoint and 5 here"),
    "train_dataloader.dataset.images": (40, "dataset.images is None in the checkpoint and 40 here"),
    "train_dataloader.sampler.shuffle": (False, "shuffle is True in the checkpoint and False"),
    "param_scheduler.0.start_factor": (0.5, "start_factor is 1e-09 in the checkpoint and 0.5"),
    "randomness.seed": (1, "seed is 0 in the checkpoint and 1 here"),
    "custom_hooks": ([dict(type="EMAHook")], "custom_hooks.0.type is 'WatchHook' .* 'EMAHook'"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_the_result_is_refused_with_both_values(whole, field: str, tmp_path: Path):
    value, message = CHANGES[field]
    cfg = tiny_config("epochs", tmp_path, **{field: value})
    path = whole("epochs").checkpoint(8)
    with pytest.raises(UserError, match=f"{message}.*--init-from {path}"):
        begin(cfg, Start(resume=path, fixed=[field]))


def test_another_total_batch_is_refused_with_both_values(whole, tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path, total_batch=4)
    with pytest.raises(UserError, match="total_batch is 8 in the checkpoint and 4 here"):
        begin(cfg, Start(resume=whole("epochs").checkpoint(8)))


def test_a_longer_run_without_the_option_is_refused_with_it(whole, tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path, **{"train_cfg.max_epochs": 6})
    with pytest.raises(UserError, match=r"for 4 epochs and this .* 6: repeat --epochs 4; a larger"):
        begin(cfg, Start(resume=whole("epochs").checkpoint(8)))


@pytest.mark.parametrize(("epochs", "text"), [(3, "a shorter run: ends after 12"), (5, "longer")])
def test_another_length_is_said_with_both(whole, epochs: int, text: str, tmp_path: Path):
    start = Start(resume=whole("epochs").checkpoint(8), new_length=True)
    run_tiny(tiny_config("epochs", tmp_path), start, epochs=epochs)
    (log,) = tmp_path.glob("*/*.log")
    assert text in log.read_text()
    assert f"ends after {4 * epochs} updates instead of {UPDATES}" in log.read_text()


def test_another_warm_up_than_the_checkpoint_s_is_refused():
    record = record_with({}) | dict(schedule=dict(warmup_updates=3))
    now = record | dict(schedule=dict(warmup_updates=2))
    with pytest.raises(UserError, match="warmup_updates is 3 in the checkpoint and 2 here"):
        check_continuation("file", record, now)
    assert check_continuation("file", record, now, new_length=True) == []


def test_how_often_a_run_is_judged_is_said_once(whole, tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path, **{"train_cfg.val_interval": 3})
    run_tiny(cfg, Start(resume=whole("epochs").checkpoint(8)))
    (log,) = tmp_path.glob("*/*.log")
    assert log.read_text().count("val_interval is None in the checkpoint and 3 here") == 1


LENGTHS = [
    ("epochs", dict(epochs=5), "for 5 epochs and this command is for 4: repeat --epochs 5; a lar"),
    ("iterations", dict(iters=20), "for 20 updates and this .* for 16: repeat --iters 20; a lar"),
]


@pytest.mark.parametrize(("schedule", "length", "message"), LENGTHS)
def test_a_forgotten_length_is_named(schedule: str, length: dict, message: str, tmp_path: Path):
    cfg = tiny_config(schedule, tmp_path)
    prepare(cfg, RunOptions(**length), TRAINING)
    now = tiny_config(schedule, tmp_path)
    prepare(now, RunOptions(), TRAINING)
    with pytest.raises(UserError, match=message):
        check_continuation("x.pth", record_of(cfg), record_of(now))


def test_another_precision_is_said(whole, tmp_path: Path):
    path = whole("epochs").checkpoint(8)
    kind = {"optim_wrapper.type": "milan_mm.BFloat16OptimWrapper"}
    cfg = tiny_config("epochs", tmp_path, **kind)
    assert find_origin(cfg, Start(resume=path)).notes == [
        f"{path} was trained in float32, and the run goes on in bfloat16"
    ]
    assert find_origin(tiny_config("epochs", tmp_path), Start(resume=path)).notes == []


def test_a_run_that_would_end_before_the_checkpoint_is_refused(whole, tmp_path: Path):
    start = Start(resume=whole("epochs").checkpoint(16), new_length=True)
    with pytest.raises(UserError, match=r"has 16 updates and .* would end after 12: .*--epochs"):
        run_tiny(tiny_config("epochs", tmp_path), start, epochs=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_dataloader.num_workers", 1),
        ("train_cfg.val_interval", 2),
        ("default_hooks.checkpoint.interval", 5),
        ("env_cfg", dict(cudnn_benchmark=True)),
        ("log_level", "WARNING"),
    ],
)
def test_what_changes_nothing_goes_on(whole, field: str, value: Any, tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path, **{field: value})
    begin(cfg, Start(resume=whole("epochs").checkpoint(8)))
    assert cfg.load_from == whole("epochs").checkpoint(8)


def test_a_seed_that_the_run_has_drawn_is_taken_from_the_checkpoint(whole, tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path)
    cfg.pop("randomness")
    begin(cfg, Start(resume=whole("epochs").checkpoint(8)))
    assert cfg.randomness.seed == 0


def test_other_images_are_refused_before_training(whole, tmp_path: Path):
    content = torch.load(whole("epochs").checkpoint(8), weights_only=False)
    content["meta"]["milan_mm"]["data"]["train"]["count"] = 36
    torch.save(content, tmp_path / "iter_8.pth")
    with pytest.raises(UserError, match=r"data.train.count is 36 in the checkpoint and 35 here"):
        run_tiny(tiny_config("epochs", tmp_path / "run"), Start(resume=f"{tmp_path}/iter_8.pth"))
    assert not WatchHook.rates


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("head"),
            "is missing 1 of the model's 2 tensors, first 'head'",
        ),
        (lambda tensors: tensors.update(more=torch.ones(1)), "holds unknown 1 .* first 'more'"),
        (lambda tensors: tensors.update(body=torch.ones(9)), "has other shapes of 1 .*'body'"),
    ],
)
def test_tensors_must_be_those_of_the_model(whole, change: Callable, message: str, tmp_path: Path):
    content = torch.load(whole("epochs").checkpoint(8), weights_only=False)
    change(content["state_dict"])
    torch.save(content, tmp_path / "iter_8.pth")
    for start in (
        Start(resume=f"{tmp_path}/iter_8.pth"),
        Start(init_from=f"{tmp_path}/iter_8.pth"),
    ):
        with pytest.raises(UserError, match=message):
            run_tiny(tiny_config("epochs", tmp_path / "run"), start)
    assert not WatchHook.rates


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (["optimizer"], r"has no 'optimizer', so .* --init-from \S+ starts a new run"),
        (["message_hub"], "has no 'message_hub'"),
        (["meta"], "has no 'meta'"),
        (["state_dict"], r"is not a training checkpoint, .* --weights \S+ starts"),
        (["meta", "optimizer", "param_schedulers", "message_hub"], "has no 'meta', 'message_hub'"),
    ],
)
def test_a_file_that_no_training_can_go_on_from_is_refused(
    whole, left_out: list[str], message: str, tmp_path: Path
):
    content = torch.load(whole("epochs").checkpoint(8), weights_only=False)
    file = str(tmp_path / "iter_8.pth")
    torch.save({key: value for key, value in content.items() if key not in left_out}, file)
    with pytest.raises(UserError, match=message):
        begin(tiny_config("epochs", tmp_path / "run"), Start(resume=file))


EXCLUDED = [
    (Start(resume="auto", trial=True), "--quick and --resume exclude each other"),
    (Start(resume="auto", init_from="x.pth"), "--init-from and --resume exclude each other"),
    (Start(init_from="x.pth", weights=True), "--init-from and --weights exclude each other"),
    (Start(resume="gone.pth"), "'gone.pth' does not exist: give a file or a work directory"),
    (Start(init_from="gone.pth"), "'gone.pth' does not exist"),
]


@pytest.mark.parametrize(("start", "message"), EXCLUDED)
def test_options_that_exclude_each_other_are_named(start: Start, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        begin(tiny_config("epochs", tmp_path), start)


def test_beside_a_damaged_file_the_newest_whole_one_is_offered(whole, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "iter_9.pth").write_bytes(b"PK")
    given = Start(resume=str(folder / "iter_9.pth"))
    with pytest.raises(UserError, match=r"is damaged[^;]*$"):  # nothing to offer
        begin(tiny_config("epochs", folder), given)
    shutil.copy(whole("epochs").checkpoint(8), folder)
    end = "the newest whole one, iter_8.pth$"
    with pytest.raises(UserError, match=rf"; --resume alone takes {end}"):
        begin(tiny_config("epochs", folder), given)
    with pytest.raises(UserError, match=rf"; --resume {folder} takes {end}"):
        begin(tiny_config("epochs", tmp_path / "other"), given)
    with pytest.raises(UserError, match=rf"; --init-from {folder} takes {end}"):
        begin(tiny_config("epochs", tmp_path / "other"), Start(init_from=given.resume))


def test_without_a_checkpoint_the_run_starts_at_the_beginning_and_says_so(tmp_path: Path):
    cfg = tiny_config("epochs", tmp_path)
    assert begin(cfg, Start(resume="auto")) == [
        f"no checkpoint in '{tmp_path}': starts at the beginning"
    ]
    assert not cfg.resume


def test_a_new_run_takes_all_weights_and_starts_its_own_schedule(whole, tmp_path: Path):
    run = whole("epochs")
    cfg = tiny_config("epochs", tmp_path, **{"optim_wrapper.optimizer.lr": 0.0})
    runner = run_tiny(cfg, Start(init_from=run.checkpoint(UPDATES)))
    torch.testing.assert_close(runner.model.state_dict(), run.weights)
    assert len(WatchHook.rates) == UPDATES


@pytest.mark.parametrize("value", [0.3, None])
def test_a_new_run_has_a_drop_path_of_its_own(value: float | None, tmp_path: Path):
    field = "model.backbone.drop_path_rate"
    record = record_of(load(FINETUNE)) | dict(recipe_hash=config_hash(load(FINETUNE)))
    record["model"]["backbone"]["drop_path_rate"] = 0.1
    file = tmp_path / "epoch_1.pth"
    torch.save(dict(meta=dict(milan_mm=record), state_dict={}), file)
    cfg = load(FINETUNE)
    options = [f"{field}={value}"] if value else []
    start = Start(init_from=str(file), fixed=[field] if value else [])
    assert begin(cfg, start, cfg_options=options, work_dir=str(tmp_path / "run")) == []
    assert cfg.model.backbone.get("drop_path_rate") == value


def test_layers_for_other_classes_start_anew_and_are_named(whole, tmp_path: Path):
    run = whole("epochs")
    changes = {"optim_wrapper.optimizer.lr": 0.0, "model.num_classes": 5}
    start = Start(init_from=run.checkpoint(UPDATES))
    runner = run_tiny(tiny_config("epochs", tmp_path, **changes), start)
    torch.testing.assert_close(runner.model.body.data, run.weights["body"])
    torch.testing.assert_close(runner.model.head.data, torch.ones(5))
    (log,) = tmp_path.glob("*/*.log")
    assert "starts from 1 of 2 tensors of " in log.read_text()
    assert "; new, for other classes: head" in log.read_text()
    assert "do not match" not in log.read_text()  # mmengine's warning of missing tensors


def test_best_checkpoints_of_another_folder_are_never_removed(whole, tmp_path: Path):
    content = torch.load(whole("epochs").checkpoint(8), weights_only=False)
    best = tmp_path / "best_top1_epoch_1.pth"
    best.touch()
    content["message_hub"]["runtime_info"]["best_ckpt"] = str(best)
    torch.save(content, tmp_path / "iter_8.pth")
    runner = run_tiny(
        tiny_config("epochs", tmp_path / "run"), Start(resume=f"{tmp_path}/iter_8.pth")
    )
    assert runner.message_hub.runtime_info.get("best_ckpt") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(count=36), "data.train.count is 36 in the checkpoint and 35 here"),
        (dict(hash="0", root="there"), "the files of data.train have other names, sizes or"),
        (dict(count=36, hash="0"), "data.train.count is 36"),
    ],
)
def test_other_data_are_refused(change: dict, message: str):
    data = dict(count=35, hash="1", root="here")
    record = record_with(data | change)
    with pytest.raises(UserError, match=message):
        check_continuation("x.pth", record, record_with(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(root="there"), "data.train.root is 'there' in the checkpoint and 'here' here"),
        (dict(hash="0"), "the files of data.train have other names, sizes or annotations than"),
    ],
    ids=["moved", "repaired"],
)
def test_moved_and_repaired_data_are_said(change: dict, message: str):
    data = dict(count=35, hash="1", root="here")
    (note,) = check_continuation("x.pth", record_with(data | change), record_with(data))
    assert message in note


def test_processes_that_see_other_checkpoints_do_not_train_together(tmp_path: Path):
    def start(rank: int) -> str:
        origin = Origin(Start(resume="auto"))
        if rank == 0:
            origin.path, origin.meta = "run/iter_4.pth", dict(iter=4)
        try:
            origin.enter(None, None, {})
        except UserError as error:
            return str(error)
        return ""

    for message in in_processes(2, start, tmp_path):
        assert message.startswith("process 0 starts from 'iter_4.pth' and process 1 from the begin")


@pytest.mark.parametrize("recipe", list_configs())
def test_every_recipe_saves_what_a_resumed_run_needs_before_it_ends(recipe: str):
    cfg = load(recipe)
    hook = cfg.default_hooks.checkpoint
    assert hook.get("save_optimizer", True) and hook.get("save_param_scheduler", True)
    assert 0 < hook.interval <= cfg.train_cfg.get("max_iters", cfg.train_cfg.get("max_epochs"))


def test_restarted_processes_go_on_where_the_run_was_whatever_it_started_from(whole, tmp_path):
    begun, new = (tiny_config("epochs", place) for place in (whole("epochs").folder, tmp_path))
    first = Start(init_from="other.pth")
    assert after_restart(begun, first) == Start(resume="auto")
    assert after_restart(new, first) == first
    assert after_restart(begun, Start(trial=True)) == Start(trial=True)


def test_an_interrupted_run_says_which_option_its_resumption_must_not_have():
    assert Start().how_to_go_on == "the same command with --resume"
    assert Start(init_from="F").how_to_go_on.endswith("--resume instead of --init-from")
