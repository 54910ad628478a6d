"""A name at the top of a recipe acts on all that is derived from it, or is refused."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from milan_mm.configs import list_configs, load
from milan_mm.errors import UserError
from milan_mm.run.fields.keys import FIRST_KEYS
from milan_mm.run.fields.names import check_file_names, names_of, set_names
from milan_mm.run.prepare import set_fields, set_recipe_names
from milan_mm.run.run_options import RunOptions
from tests.run.own_data.folders import image_folder

MILAN = "milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
FINETUNE = "finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
DETECTOR = "mask-rcnn_vit-mini-p8_1xb8-250i_shapes"


def fields(cfg: Config) -> dict[str, Any]:
    """What mmengine reads of a config."""
    return {key: value for key, value in cfg.to_dict().items() if key in FIRST_KEYS}


def set_options(cfg: Config, *cfg_options: str) -> None:
    """The steps that `--cfg-options` take."""
    for step in (set_recipe_names, set_fields):
        step(cfg, RunOptions(cfg_options=cfg_options))


def other(value: Any) -> Any:
    """Another value of the same kind; None where no single option gives one."""
    if isinstance(value, bool) or value is None:
        return "other"
    if isinstance(value, (int, float)):
        return value * 2 or 1
    if isinstance(value, str):
        return value + "x"
    numbers = isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value)
    return tuple(v * 2 for v in value) if numbers else None


@pytest.mark.parametrize("recipe", list_configs())
def test_each_name_of_each_recipe_acts_or_is_refused(recipe: str):
    before = load(recipe)
    for name in sorted(names_of(before)):
        value = other(before[name])
        if value is None:
            continue
        cfg = load(recipe)
        try:
            notes = set_names(cfg, {name: value}, "--cfg-options")
        except UserError as error:
            assert f"{name}={value!r}" in str(error)
            assert fields(cfg) == fields(before), "half-written"
        else:
            assert fields(cfg) != fields(before), f"{name} changes nothing"
            assert notes[0].startswith(f"--cfg-options {name}={value!r}: sets ")


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        (
            MILAN,
            ["max_epochs=100"],
            {
                "train_cfg.max_epochs": 100,
                "param_scheduler.1.end": 100,
                "param_scheduler.1.T_max": 60,
            },
        ),
        (MILAN, ["base_lr=1e-3"], {"optim_wrapper.optimizer.lr": 1e-3 * 16}),
        (MILAN, ["max_epochs=100", "warmup_epochs=5"], {"param_scheduler.1.T_max": 95}),
        (
            MILAN,
            ["total_batch=1024"],
            {
                "total_batch": 1024,
                "optim_wrapper.optimizer.lr": 6e-4,
                "auto_scale_lr.base_batch_size": 1024,
            },
        ),
        (MILAN, ["teacher.pretrained=random"], {"model.head.teacher.pretrained": "random"}),
        (
            MILAN,
            ["imagenet_stats.mean=[1,2,3]"],
            {"model.data_preprocessor.mean": [1, 2, 3], "model.head.teacher.stats.mean": [1, 2, 3]},
        ),
        (FINETUNE, ["lr=1e-2"], {"param_scheduler.1.eta_min_ratio": 1e-6 / 1e-2}),
        (FINETUNE, ["num_classes=7"], {"model.head.num_classes": 7}),
        (
            FINETUNE,
            ["train_pipeline.2.total_level=5"],
            {"train_dataloader.dataset.pipeline.2.total_level": 5},
        ),
        (
            DETECTOR,
            ["max_iters=500"],
            {"train_cfg.max_iters": 500, "default_hooks.checkpoint.interval": 500},
        ),
        (
            DETECTOR,
            ["data_root=mine/"],
            {
                "test_dataloader.dataset.data_root": "mine/",
                "val_evaluator.ann_file": "mine/annotations/instances_val2017.json",
            },
        ),
        # a field that is written out has the last word
        (MILAN, ["max_epochs=100", "train_cfg.max_epochs=7"], {"train_cfg.max_epochs": 7}),
    ],
)
def test_what_is_derived_from_a_name_follows_it(
    recipe: str, options: list[str], expected: dict[str, Any]
):
    cfg = load(recipe)
    set_options(cfg, *options)
    for name, value in expected.items():
        node: Any = cfg
        for key in name.split("."):
            node = node[int(key) if key.isdigit() else key]
        assert node == (pytest.approx(value) if isinstance(value, float) else value), name


def test_a_rate_that_does_not_follow_the_batch_keeps_the_batch_it_was_chosen_for():
    cfg = load(DETECTOR)
    set_options(cfg, "batch_per_gpu=16")
    assert (cfg.total_batch, cfg.auto_scale_lr.base_batch_size) == (16, 8)


@pytest.mark.parametrize(
    ("recipe", "option", "message"),
    [
        ("milan_vit-large-p16_8xb512-amp-coslr-400e_in1k", "embed_dims=512", "model.decoder.embed"),
        ("mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco", "data_root=x", "dataset.data_root"),
        ("upernet_vit-mini-p8_1xb8-250i_shapes-96x96", "crop_size=(32,32)", "use --img-size"),
        (MILAN, "optimizer.lr=0.1", "'optimizer'; did you mean 'optim_wrapper'"),
        (MILAN, "lr=0.1", "fields of this name: 'optim_wrapper.optimizer.lr'"),
        (MILAN, "total_bach=64", "did you mean 'total_batch'"),
        (MILAN, "max_epoch=64", "did you mean 'max_epochs'"),
        (MILAN, "warmup_epochs=many", "cannot be evaluated with it"),
        (MILAN, "train_pipeline.9.scale=3", "cannot be evaluated with it"),
        (MILAN, "launcher=pytorch", "use --launcher"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(recipe: str, option: str, message: str):
    cfg = load(recipe)
    with pytest.raises(UserError, match="(?i)" + message.replace("(", r"\(").replace(")", r"\)")):
        set_options(cfg, option)
    assert fields(cfg) == fields(load(recipe))


def test_a_name_of_a_dumped_config_is_refused_with_the_fields_of_its_value(tmp_path: Path):
    load(MILAN).dump(tmp_path / "dumped.py")
    with pytest.raises(UserError, match=r"derives nothing from 'max_epochs'.*train_cfg.max_epochs"):
        set_options(load(tmp_path / "dumped.py"), "max_epochs=100")


def test_own_data_and_a_name_that_contradicts_them_are_refused(tmp_path: Path):
    from milan_mm.run.own_data import set_own_data

    cfg = load(FINETUNE)
    set_own_data(cfg, str(image_folder(tmp_path)))
    with pytest.raises(UserError, match=r"num_classes=7, and another option has set it"):
        set_options(cfg, "num_classes=7")


@pytest.mark.parametrize("recipe", list_configs())
def test_no_recipe_sets_a_name_without_effect(recipe: str):
    check_file_names(load(recipe))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "optim_wraper = dict(optimizer=dict(lr=5))",
            "'optim_wraper'; did you mean 'optim_wrapper'",
        ),
        ("total_bach = 512", "'total_bach'; did you mean 'total_batch'"),
        ("max_epoch = 3", "did you mean 'max_epochs'"),
        ("randomnes = dict(seed=1)", "did you mean 'randomness'"),
        ("max_epochs = 3", "max_epochs=3, which changes nothing.*Set .*train_cfg.max_epochs"),
        ("base_lr = 1", "base_lr=1, which changes nothing.*optim_wrapper.optimizer.lr"),
    ],
)
def test_a_name_without_effect_in_a_users_child_config_is_refused(
    tmp_path: Path, line: str, message: str
):
    cfg = child(tmp_path, line)
    with pytest.raises(UserError, match=message):
        check_file_names(cfg)


@pytest.mark.parametrize(
    "line",
    [
        "max_epochs = 3\ntrain_cfg = dict(max_epochs=max_epochs)",  # the file reads it itself
        "base_lr = 1.5e-4",  # as in the base
        "my_note = 'first try'",
        "randomness = dict(seed=1)",
    ],
)
def test_a_users_child_config_may_have_names_of_its_own(tmp_path: Path, line: str):
    check_file_names(child(tmp_path, line))


def child(folder: Path, line: str) -> Config:
    """A config of a user that changes a recipe."""
    from milan_mm.configs import find_config

    path = folder / "child.py"
    path.write_text(f"_base_ = {str(find_config(MILAN))!r}\n{line}\n")
    return load(path)


def test_a_config_that_names_files_beside_it_finds_them_after_an_option(tmp_path: Path):
    cfg = child(tmp_path, 'train_dataloader = dict(dataset=dict(data_root="{{ fileDirname }}/x"))')
    set_options(cfg, "max_epochs=3", "warmup_epochs=1")
    assert cfg.train_dataloader.dataset.data_root == f"{tmp_path}/x"


def test_a_name_of_a_users_child_config_moves_its_base_as_well(tmp_path: Path):
    cfg = child(tmp_path, "model = dict(backbone=dict(drop_path_rate=0.1))")
    set_options(cfg, "max_epochs=3", "warmup_epochs=1")
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].T_max) == (3, 2)
    assert cfg.model.backbone.drop_path_rate == 0.1
