"""From options to a config: each option does what it says, in the order that works."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS

from milan_mm.configs import load
from milan_mm.run.prepare import (
    RECIPE,
    TEST,
    TRAINING,
    RunOptions,
    choose_work_dir,
    compile_parts,
    limit_batch,
    prepare,
    use_bfloat16,
)
from milan_mm.run.quick import make_quick
from milan_mm.run.records.canonical import config_hash
from milan_mm.run.records.record import Recorded, record_of
from tests.run.own_data.folders import image_folder

MILAN = "milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
FINETUNE = "finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
QUICK, AMP = RunOptions(shorten=make_quick), RunOptions(amp=True)


def test_options_of_the_command_line_override_fields():
    cfg = load(MILAN)
    fields = ["model.mask_generator.mask_ratio=0.6", "total_batch=64"]
    prepare(cfg, RunOptions(cfg_options=fields), RECIPE)
    assert cfg.model.mask_generator.mask_ratio == 0.6
    assert cfg.total_batch == 64


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("shapes_stats.mean=[1,2,3]", "model.data_preprocessor.mean"),
        ("num_classes=7", "model.head.num_classes"),
    ],
)
def test_what_follows_from_an_option_is_the_users_and_no_record_replaces_it(
    option: str, field: str
):
    record = record_of(load(FINETUNE)) | dict(recipe_hash=config_hash(load(FINETUNE)))
    found = Recorded("epoch_1.pth", record, None, masks=False, meta={})
    options = RunOptions(cfg_options=[option], recorded=found)
    with pytest.raises(ValueError, match=r"in the checkpoint and .* here: leave that option out"):
        prepare(load(FINETUNE), options, TEST)
    assert field in options.fixed


def test_the_work_directory_follows_the_config_name_and_marks_trials():
    cfg = Config({}, filename=__file__)
    choose_work_dir(cfg, QUICK)
    assert Path(cfg.work_dir) == Path("work_dirs/test_prepare-quick")
    choose_work_dir(cfg, RunOptions(work_dir="mine", shorten=make_quick))
    assert cfg.work_dir == "mine"


def test_the_work_directory_of_own_data_carries_their_name(tmp_path: Path):
    cfg = Config({}, filename=__file__)
    choose_work_dir(cfg, RunOptions(data=f"{tmp_path}/fruit/", shorten=make_quick))
    assert Path(cfg.work_dir) == Path("work_dirs/test_prepare-fruit-quick")


def test_options_have_the_last_word_on_own_data(tmp_path: Path, capsys: pytest.CaptureFixture):
    cfg = load(FINETUNE)
    fields = ["model.head.num_classes=7", "val_dataloader.dataset.data_prefix=train"]
    options = RunOptions(data=str(image_folder(tmp_path)), cfg_options=fields)
    found = prepare(cfg, options, RECIPE)
    assert cfg.model.head.num_classes == 7
    assert cfg.val_dataloader.dataset.data_prefix == "train"
    assert cfg.val_dataloader.dataset.data_root == str(tmp_path)
    assert capsys.readouterr().out.splitlines() == found


def test_names_of_classes_do_not_act_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = image_folder(tmp_path)
    for split in ("train", "val"):
        folder = min(path for path in (root / split).iterdir())
        folder.rename(folder.with_name("\x1b[31mred"))
    prepare(load(FINETUNE), RunOptions(data=str(root)), RECIPE)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "'\\x1b[31mred'" in said


def test_one_process_of_several_prints_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("RANK", "1")
    found = prepare(load(FINETUNE), RunOptions(data=str(image_folder(tmp_path))), RECIPE)
    assert found and not capsys.readouterr().out


def test_own_data_compose_with_a_trial(tmp_path: Path):
    cfg = load(FINETUNE)
    options = RunOptions(data=str(image_folder(tmp_path)), shorten=make_quick)
    prepare(cfg, options, TRAINING)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert last_of(loader.dataset).data_root == str(tmp_path)
    assert cfg.train_dataloader.dataset.num_samples >= 1
    assert cfg.val_dataloader.sampler.num_samples >= 1


def last_of(dataset: Config) -> Config:
    """The data set inside its wrappers."""
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def test_a_rate_of_the_users_own_belongs_to_the_total_batch_of_the_run():
    cfg = load(FINETUNE)  # 1e-3 for 32 images
    prepare(cfg, RunOptions(epochs=20, lr=5e-4, cfg_options=["total_batch=16"]), TRAINING)
    assert cfg.train_cfg.max_epochs == cfg.train_cfg.val_interval == 20
    assert cfg.optim_wrapper.optimizer.lr == 5e-4
    assert cfg.train_dataloader.sampler.total_batch == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(epochs=3, cfg_options=["train_cfg.max_epochs=4"]), "--epochs 3 and --cfg-options tr"),
        (
            dict(lr=0.1, cfg_options=["optim_wrapper.optimizer.lr=1"]),
            "--lr 0.1 and --cfg-options o",
        ),
        (dict(epochs=3, shorten=make_quick), "--epochs and --quick exclude each other"),
        (dict(epochs=3, iters=4), "--epochs and --iters exclude each other"),
    ],
)
def test_a_length_or_rate_that_is_said_twice_is_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        prepare(load(FINETUNE), RunOptions(**settings), RECIPE)


def test_amp_turns_a_plain_wrapper_to_bfloat16_and_keeps_a_chosen_precision():
    for before, after in [
        ("OptimWrapper", "milan_mm.BFloat16OptimWrapper"),
        ("AmpOptimWrapper", "AmpOptimWrapper"),
        ("milan_mm.BFloat16OptimWrapper", "milan_mm.BFloat16OptimWrapper"),
    ]:
        cfg = Config(dict(optim_wrapper=dict(type=before)))
        use_bfloat16(cfg, AMP)
        assert cfg.optim_wrapper.type == after
    with pytest.raises(ValueError, match="--amp does not support"):
        use_bfloat16(Config(dict(optim_wrapper=dict(type="ApexOptimWrapper"))), AMP)


def test_smaller_gpus_accumulate_more_at_the_same_total_batch_and_rate():
    cfg = load(MILAN)
    lr = cfg.optim_wrapper.optimizer.lr
    notes = prepare(cfg, RunOptions(batch_per_gpu=128), TRAINING)
    assert "total batch 4096 = 128 per process x 1 process(es) x 32 acc" in notes[0]
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
        limit_batch(cfg, RunOptions(batch_per_gpu=limit, shorten=make_quick if quick else None))


def test_every_run_saves_its_checkpoints_atomically():
    hooks = dict(checkpoint=dict(type="CheckpointHook"))
    cfg = Config(dict(model={}, default_hooks=hooks), filename=__file__)
    prepare(cfg, RunOptions(), TRAINING)
    assert cfg.default_hooks.checkpoint.backend_args == dict(backend="atomic_local")


@pytest.mark.parametrize(
    "fields", [dict(file_client_args=dict(backend="disk")), dict(out_dir="s3://bucket/runs")]
)
def test_a_config_that_saves_by_other_means_keeps_them(fields: dict):
    hooks = dict(checkpoint=dict(type="CheckpointHook", **fields))
    cfg = Config(dict(model={}, default_hooks=hooks), filename=__file__)
    prepare(cfg, RunOptions(), TRAINING)
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert hook.backend_args is None


def test_compile_adds_a_hook_to_those_of_the_config():
    cfg = Config(dict(custom_hooks=[dict(type="milan_mm.LossHook")]))
    plain, none = Config({}), Config(dict(custom_hooks=None))
    for each in (cfg, plain, none):
        compile_parts(each, RunOptions(compile=True))
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
    use_bfloat16(cfg, AMP)
    assert cfg.optim_wrapper.modules == ["backbone", "neck"]


def test_an_evaluation_does_not_split_the_training_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    cfg = load("mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco")
    notes = prepare(cfg, RunOptions(launcher="pytorch"), TEST)
    assert cfg.train_dataloader.batch_size == 8
    assert not any("total batch" in note for note in notes)


def test_options_about_a_weights_file_that_is_missing_are_refused():
    with pytest.raises(ValueError, match=r"--num-heads, --student applies to --weights FILE"):
        prepare(load(MILAN), RunOptions(reading=dict(num_heads=3, student=True)), RECIPE)
