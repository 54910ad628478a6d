"""From a command line to a config, and which errors become one line."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from milan_mm.engine.hooks.losses import LossHook
from milan_mm.run import launch
from milan_mm.run.launch import (
    fit_run,
    load_config,
    load_config_and_data,
    set_amp,
    set_batch_per_gpu,
    set_compile,
    set_work_dir,
    user_errors,
)
from milan_mm.run.training import _check_classes, _check_fit
from tests.run.own_data.folders import image_folder

RECIPE = "milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"


@pytest.fixture
def training() -> None:
    """As if training had started."""
    MessageHub.get_instance("test_launch").update_info("loop_stage", "train")
    yield
    MessageHub.get_instance("test_launch").pop_info("loop_stage")


def test_options_of_the_command_line_override_fields():
    cfg = load_config(RECIPE, ["model.mask_generator.mask_ratio=0.6", "total_batch=64"])
    assert cfg.model.mask_generator.mask_ratio == 0.6
    assert cfg.total_batch == 64


def test_the_work_directory_follows_the_config_name_and_marks_trials():
    cfg = Config({}, filename=__file__)
    set_work_dir(cfg, None, quick=True)
    assert Path(cfg.work_dir) == Path("work_dirs/test_launch-quick")
    set_work_dir(cfg, "mine", quick=True)
    assert cfg.work_dir == "mine"


def test_the_work_directory_of_own_data_carries_their_name(tmp_path: Path):
    cfg = Config({}, filename=__file__)
    set_work_dir(cfg, None, quick=True, data=f"{tmp_path}/fruit/")
    assert Path(cfg.work_dir) == Path("work_dirs/test_launch-fruit-quick")


def test_options_have_the_last_word_on_own_data(tmp_path: Path, capsys: pytest.CaptureFixture):
    recipe = "finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
    options = ["model.head.num_classes=7", "val_dataloader.dataset.data_prefix=train"]
    cfg, found = load_config_and_data(recipe, options, str(image_folder(tmp_path)))
    assert cfg.model.head.num_classes == 7
    assert cfg.val_dataloader.dataset.data_prefix == "train"
    assert cfg.val_dataloader.dataset.data_root == str(tmp_path)
    assert capsys.readouterr().out.splitlines() == found


def test_one_process_of_several_prints_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("RANK", "1")
    _, found = load_config_and_data(
        "finetune_vit-micro-p8_1xb32-coslr-5e_shapes", None, str(image_folder(tmp_path))
    )
    assert found and not capsys.readouterr().out


def test_own_data_compose_with_a_trial(tmp_path: Path):
    recipe = "finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
    cfg, _ = load_config_and_data(recipe, None, str(image_folder(tmp_path)))
    fit_run(cfg, "none", quick=True)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert last_of(loader.dataset).data_root == str(tmp_path)
        assert loader.dataset.times >= 1


def last_of(dataset: Config) -> Config:
    """The data set inside its wrappers."""
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def test_amp_turns_a_plain_wrapper_to_bfloat16_and_keeps_a_chosen_precision():
    for before, after in [
        ("OptimWrapper", "milan_mm.BFloat16OptimWrapper"),
        ("AmpOptimWrapper", "AmpOptimWrapper"),
        ("milan_mm.BFloat16OptimWrapper", "milan_mm.BFloat16OptimWrapper"),
    ]:
        cfg = Config(dict(optim_wrapper=dict(type=before)))
        set_amp(cfg)
        assert cfg.optim_wrapper.type == after
    with pytest.raises(ValueError, match="--amp does not know"):
        set_amp(Config(dict(optim_wrapper=dict(type="ApexOptimWrapper"))))


def test_smaller_gpus_accumulate_more_at_the_same_total_batch_and_rate():
    cfg = load_config(RECIPE, None)
    lr = cfg.optim_wrapper.optimizer.lr
    set_batch_per_gpu(cfg, 128, quick=False)
    assert (
        "total batch 4096 = 128 per process x 1 process(es) x 32 acc"
        in fit_run(cfg, "none", quick=False)[0]
    )
    assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.accumulative_counts) == (128, 32)
    assert cfg.optim_wrapper.optimizer.lr == lr


@pytest.mark.parametrize(
    ("total", "limit", "quick", "message"),
    [
        (8, 0, False, "--batch-per-gpu 0: give 1 or more"),
        (8, 2, True, "--batch-per-gpu and --quick exclude each other"),
        (None, 2, False, "states no total_batch for its learning rate"),
    ],
)
def test_a_batch_per_gpu_that_cannot_hold_is_refused(
    total: int | None, limit: int, quick: bool, message: str
):
    cfg = Config(dict(train_dataloader=dict(batch_size=8)))
    if total:
        cfg.total_batch = total
    with pytest.raises(ValueError, match=message):
        set_batch_per_gpu(cfg, limit, quick)


def test_every_run_saves_its_checkpoints_atomically():
    hooks = dict(checkpoint=dict(type="CheckpointHook"))
    cfg = Config(dict(model={}, default_hooks=hooks))
    fit_run(cfg, "none", quick=False)
    assert cfg.default_hooks.checkpoint.backend_args == dict(backend="atomic_local")


def test_a_mistake_before_training_is_one_line_and_removes_only_what_the_run_created(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "mine").mkdir()
    cfg = Config(dict(work_dir=str(tmp_path / "mine/new/run")))
    with pytest.raises(SystemExit) as stop, user_errors(cfg):
        Path(cfg.work_dir, "logs").mkdir(parents=True)
        raise ValueError("several\nlines  of text")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: several lines of text\n"
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_an_existing_work_directory_is_kept(tmp_path: Path):
    (tmp_path / "epoch_1.pth").touch()
    with pytest.raises(SystemExit), user_errors(Config(dict(work_dir=str(tmp_path)))):
        raise FileNotFoundError("gone")
    assert (tmp_path / "epoch_1.pth").exists()


def test_what_the_system_says_of_a_path_is_one_line(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stop, user_errors():
        raise OSError(30, "Read-only file system", "/mnt/out")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: '/mnt/out': Read-only file system\n"


@pytest.mark.parametrize("error", [OSError(104, "Connection reset by peer"), OSError("no network")])
def test_other_errors_of_the_system_keep_their_traceback(error: OSError):
    with pytest.raises(OSError, match=str(error.args[-1])), user_errors():
        raise error


@pytest.mark.parametrize(
    ("environment", "waits"),
    [
        ({}, False),
        (dict(RANK="0", LOCAL_RANK="0"), False),
        (dict(RANK="1", LOCAL_RANK="1"), True),
        (dict(RANK="8", LOCAL_RANK="0"), False),  # the first of a second machine
        (dict(SLURM_PROCID="8", LOCAL_RANK="0"), True),  # tools/train.py sets LOCAL_RANK
    ],
)
def test_a_process_that_is_not_the_first_waits_before_it_tells_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, environment: dict, waits: bool
):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    waited: list[str] = []
    monkeypatch.setattr(launch.time, "sleep", lambda _: waited.append(capsys.readouterr().err))
    with pytest.raises(SystemExit), user_errors():
        raise ValueError("gone")
    assert waited == [""] * waits  # nothing was said before
    assert capsys.readouterr().err == "error: gone\n"


@pytest.mark.usefixtures("training")
def test_a_defect_during_training_keeps_its_traceback():
    with pytest.raises(ValueError, match="too many values"), user_errors():
        _, _ = (1, 2, 3)


@pytest.mark.usefixtures("training")
def test_a_stop_by_this_package_during_training_is_one_line(capsys: pytest.CaptureFixture):
    runner = Config(dict(iter=0))
    with pytest.raises(SystemExit), user_errors():
        LossHook().after_train_iter(runner, 0, outputs=dict(loss=float("nan")))
    assert capsys.readouterr().err.startswith("error: the loss is nan at iteration 1")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": (2,)}, "lacks 1 of the model's 2 tensors, first 'b'"),
        ({"a": (2,), "b": (3,), "c": (1,)}, "holds unknown 1 .* first 'c'"),
        ({"a": (2,), "b": (4,)}, "has other shapes of 1 .* first 'b'"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(found: dict, message: str):
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        _check_fit("x.pth", {name: torch.zeros(shape) for name, shape in found.items()}, wanted)


def test_compile_adds_a_hook_to_those_of_the_config():
    cfg = Config(dict(custom_hooks=[dict(type="milan_mm.LossHook")]))
    set_compile(cfg)
    set_compile(plain := Config({}))
    set_compile(none := Config(dict(custom_hooks=None)))
    kinds = ["milan_mm.LossHook", "milan_mm.CompileHook"]
    assert [hook.type for hook in cfg.custom_hooks] == kinds
    for other in (plain, none):
        assert [hook.type for hook in other.custom_hooks] == kinds[1:]


def test_amp_leaves_the_heads_of_a_detector_in_float32_for_nms_and_roi_align():
    cfg = Config(
        dict(
            default_scope="mmdet",
            model=dict(backbone={}, neck={}, rpn_head={}),
            optim_wrapper=dict(type="OptimWrapper"),
        )
    )
    set_amp(cfg)
    assert cfg.optim_wrapper.modules == ["backbone", "neck"]


def test_an_evaluation_does_not_split_the_training_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    cfg = load_config("mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco", None)
    notes = fit_run(cfg, "pytorch", quick=False, training=False)
    assert cfg.train_dataloader.batch_size == 8
    assert not any("total batch" in note for note in notes)


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        (["cat", "ant"], r"3 classes and the test data have 2, .* number 0 on, 'ant'"),
        (["ant", "bee"], r"2 on, 'cow' against 'None': test on the data"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused(tested: list[str], message: str):
    meta = dict(dataset_meta=dict(classes=("ant", "bee", "cow")))
    with pytest.raises(ValueError, match=message):
        _check_classes("x.pth", meta, dict(classes=tested))


def test_a_checkpoint_without_names_of_classes_is_accepted():
    _check_classes("x.pth", {}, dict(classes=["ant"]))
    _check_classes("x.pth", dict(dataset_meta=dict(classes=["ant"])), {})
    _check_classes("x.pth", dict(dataset_meta=dict(classes=("ant",))), dict(classes=["ant"]))
