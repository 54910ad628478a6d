"""A fingerprint changes with what can change a number, and with nothing else."""

import copy
import inspect
import json
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image
from torch.utils.data import DataLoader

import milan_mm.register  # noqa: F401 (fills the registries)
from milan_mm.configs import load
from milan_mm.evaluation import fingerprint
from milan_mm.evaluation.fingerprint import data_counts, git_commit, protocol_hash
from milan_mm.models.vit_options import ViTOptions
from milan_mm.registry import HOOKS
from milan_mm.run.prepare import compile_parts
from milan_mm.run.records import canonical
from milan_mm.run.records.canonical import config_hash, package_versions, settings_hash
from milan_mm.run.run_options import RunOptions

COCO = "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco"
ADE = "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
FINETUNE = "cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k"
Change = Callable[[Config], object]


@pytest.fixture(scope="module")
def recipes() -> dict[str, Config]:
    return {name: load(name) for name in (COCO, ADE, FINETUNE)}


def changed(cfg: Config, change: Change) -> Config:
    cfg = copy.deepcopy(cfg)
    other = change(cfg)
    return other if isinstance(other, Config) else cfg


def options(**values: object) -> Change:
    """A change of fields, with `__` for the dots."""
    return lambda cfg: cfg.merge_from_dict({k.replace("__", "."): v for k, v in values.items()})


def move_data(cfg: Config) -> Config:
    """The same data in another place, the evaluators' files included."""
    text = json.dumps(cfg.to_dict())
    assert text.count("data/coco/") > 3
    return Config(json.loads(text.replace("data/coco/", "/scratch/me/coco/")))


def reverse_keys(cfg: Config) -> Config:
    return Config(dict(reversed(cfg.to_dict().items())))


OF_THE_MACHINE = dict(
    work_dir=options(work_dir="/scratch/run-1"),
    data_root=move_data,
    workers=options(train_dataloader__num_workers=1, val_dataloader__persistent_workers=False),
    gpus=options(gpus=64, batch_per_gpu=1, train_dataloader__batch_size=1),
    accumulation=options(optim_wrapper__accumulative_counts=4),
    validation_batch=options(val_dataloader__batch_size=7, test_dataloader__batch_size=7),
    memory=options(model__backbone__with_cp=True),
    compilation=lambda cfg: compile_parts(cfg, RunOptions(compile=True)),
    copies=options(model__data_preprocessor__non_blocking=True),
    logs=options(
        default_hooks__logger__interval=1, log_processor__window_size=1, log_level="DEBUG"
    ),
    checkpoints=options(default_hooks__checkpoint__interval=1),
    seed=options(randomness__seed=3),
    weights=options(
        model__backbone__init_cfg=dict(type="milan_mm.EncoderWeights", checkpoint="/a/b.pth")
    ),
    key_order=reverse_keys,
)
OF_THE_ENCODER = dict(
    arch=lambda cfg: cfg.model.backbone.update(arch=dict(embed_dims=96, num_layers=3)),
    patch_size=options(model__backbone__patch_size=14),
    bias=options(model__backbone__patch_bias=False),
    class_token=options(model__backbone__with_cls_token=True),
    statistics=options(model__data_preprocessor__mean=[127.5] * 3),
    student=options(model__backbone__init_cfg=dict(checkpoint="b.pth", student=True)),
    layout=options(model__backbone__init_cfg=dict(checkpoint="b.pth", layout="clip")),
)
OF_THE_PROTOCOL = dict(
    pipeline=lambda cfg: cfg.train_dataloader.dataset.pipeline.pop(2),
    test_size=lambda cfg: cfg.test_dataloader.dataset.pipeline[1].update(scale=(800, 800)),
    train_file=options(train_dataloader__dataset__ann_file="annotations/other.json"),
    lr=options(optim_wrapper__optimizer__lr=2e-4),
    layer_decay=options(optim_wrapper__paramwise_cfg__layer_decay_rate=0.75),
    length=options(train_cfg__max_iters=88_750),
    schedule=lambda cfg: cfg.param_scheduler[1].milestones.pop(),
    total_batch=options(total_batch=16),
    head=options(model__roi_head__bbox_head__num_classes=79),
    neck=options(model__neck__out_channels=128),
    drop_path=options(model__backbone__drop_path_rate=0.2),
    frozen=options(model__backbone__frozen=True),
    windows=options(model__backbone__window_size=16),
    average=lambda cfg: cfg.custom_hooks.append(dict(type="EMAHook")),
)


@pytest.mark.parametrize("change", OF_THE_MACHINE.values(), ids=OF_THE_MACHINE)
def test_the_machine_changes_no_hash(recipes, change):
    cfg = recipes[COCO]
    assert config_hash(changed(cfg, change)) == config_hash(cfg)
    assert protocol_hash(changed(cfg, change)) == protocol_hash(cfg)


@pytest.mark.parametrize("change", OF_THE_ENCODER.values(), ids=OF_THE_ENCODER)
def test_the_encoder_changes_the_config_but_not_the_protocol(recipes, change):
    cfg = recipes[COCO]
    assert config_hash(changed(cfg, change)) != config_hash(cfg)
    assert protocol_hash(changed(cfg, change)) == protocol_hash(cfg)


@pytest.mark.parametrize("change", OF_THE_PROTOCOL.values(), ids=OF_THE_PROTOCOL)
def test_the_protocol_changes_both_hashes(recipes, change):
    cfg = recipes[COCO]
    assert config_hash(changed(cfg, change)) != config_hash(cfg)
    assert protocol_hash(changed(cfg, change)) != protocol_hash(cfg)


def test_every_option_of_the_encoder_is_classified():
    """A new option of `PlainViT` belongs to the weights, to the machine, or here, to the task."""
    of_the_task = {
        "drop_path_rate",
        "frozen",
        "frozen_stages",
        "global_layers",
        "out_indices",
        "out_type",
        "rel_pos_grid",
        "window_size",
    }
    known = {*fingerprint.OF_THE_ENCODER, *canonical.OF_THE_MACHINE, *of_the_task}
    assert {field.name for field in fields(ViTOptions)} <= known


def test_every_hook_of_this_package_is_classified():
    counted = {"SampleSeedHook"}
    ours = {n for n, hook in HOOKS.module_dict.items() if hook.__module__.startswith("milan_mm.")}
    assert ours == {*canonical.HARMLESS_HOOKS, *counted}


def test_every_option_of_a_data_loader_is_classified():
    counted = {"dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "collate_fn"}
    counted |= {"drop_last", "worker_init_fn", "generator", "in_order"}
    options = set(inspect.signature(DataLoader).parameters)
    assert options <= {*canonical.OF_THE_MACHINE, *counted}


def test_without_a_total_batch_the_loaders_batch_counts(recipes):
    cfg = changed(recipes[COCO], lambda cfg: cfg.pop("total_batch"))
    other = changed(cfg, options(train_dataloader__batch_size=1))
    assert protocol_hash(other) != protocol_hash(cfg)


def test_recipes_of_every_task_have_hashes_of_their_own(recipes):
    for function in (config_hash, protocol_hash):
        hashes = {function(cfg) for cfg in recipes.values()}
        assert len(hashes) == 3 and all(len(h) == 16 for h in hashes)


def test_hashing_leaves_the_config_as_it_is(recipes):
    before = recipes[ADE].to_dict()
    config_hash(recipes[ADE])
    protocol_hash(recipes[ADE])
    assert recipes[ADE].to_dict() == before


def test_equal_settings_have_equal_hashes_in_any_order():
    assert settings_hash(dict(k=20, parts=(1, 2))) == settings_hash(dict(parts=[1, 2], k=20))
    assert settings_hash(dict(k=20)) != settings_hash(dict(k=10))


def test_packages_that_make_the_numbers_have_versions():
    versions = package_versions()
    assert {"milan_mm", "torch", "timm", "numpy"} <= versions.keys()
    assert any("mmcv" in name for name in versions)
    assert all(versions.values())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with a package `milan_mm` in it."""
    (tmp_path / "milan_mm").mkdir()
    (tmp_path / "milan_mm/vit.py").write_text("depth = 12\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_the_commit_is_that_of_the_checkout(checkout):
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert len(head) == 40
    assert git_commit(checkout / "milan_mm") == head


def test_a_changed_file_marks_the_commit_and_a_new_one_does_not(checkout):
    (checkout / "notes.txt").write_text("")
    assert not git_commit(checkout / "milan_mm").endswith("-dirty")
    (checkout / "milan_mm/vit.py").write_text("depth = 24\n")
    assert git_commit(checkout / "milan_mm").endswith("-dirty")


def test_there_is_no_commit_outside_a_checkout_or_inside_that_of_another_project(
    checkout, tmp_path_factory
):
    assert git_commit(tmp_path_factory.mktemp("elsewhere")) is None
    inside = checkout / "lib/site-packages/milan_mm"
    inside.mkdir(parents=True)
    assert git_commit(inside) is None


def test_data_counts_are_those_of_the_data_sets(recipes, tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / part / label / f"{i}.png")
    root = str(tmp_path)
    cfg = changed(
        recipes[FINETUNE],
        options(train_dataloader__dataset__data_root=root, val_dataloader__dataset__data_root=root),
    )
    assert data_counts(cfg) == dict(train=6, val=4)
