"""Recipes of dense data sets: labels and settings are mmseg's, small runs give their metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope

from milan_mm.configs import find_bases, load
from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.evaluation.tasks import TASKS, of_kind
from milan_mm.models.vit_options import ViTOptions
from milan_mm.run.checks.content import check_content
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.quick import make_quick
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import train
from tests.dense_layouts import LAYOUTS, random_pairs, write_layout
from tests.helpers import forget_runs, randomise
from tests.seg_helpers import WIDTH, build_segmentor, narrow, shorten, use_data

LOADERS = ("train_dataloader", "val_dataloader")
# The configs of mmseg on the same data.
THEIRS = {
    "cityscapes": "cityscapes",
    "pascal-context": "pascal_context_59",
    "coco-stuff": "coco-stuff164k",
    "nyu-depth": "nyu",
}
NEW = [name for name in LAYOUTS if name != "ade20k"]


def of_task(task: str, root: Path) -> Config:
    """A recipe with a small model, 64-pixel crops and the data of `root`."""
    if task == "nyu-depth":
        cfg = use_data(load(recipe_name(task, "base")), root)
        cfg.model.backbone.arch = dict(embed_dims=WIDTH, num_layers=4, num_heads=4)
        cfg.model.neck.update(embed_dims=WIDTH, norm_cfg=dict(type="BN"))
        cfg.model.decode_head.in_channels = WIDTH
        return cfg
    cfg = shorten(use_data(narrow(recipe_name(task, "base")), root))
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.ignore_index = 255  # most classes do not occur
    return cfg


def theirs(data: str, root: Path, folder: Path) -> Config:
    """mmseg's own config of a data set, with its own loading and nothing else."""
    find_bases()
    path = folder / "theirs.py"
    path.write_text(f"_base_ = 'mmseg::_base_/datasets/{THEIRS[data]}.py'")
    cfg = use_data(Config.fromfile(path), root)
    for loader in LOADERS:
        dataset = cfg[loader].dataset
        kept = [t for t in dataset.pipeline if t.type.startswith("Load") or "Pack" in t.type]
        dataset.pipeline = kept
    return cfg


# Data


# of mmseg, about its own config
@pytest.mark.filterwarnings("ignore:`reduce_zero_label` will be deprecated:UserWarning")
@pytest.mark.parametrize("data", NEW)
def test_images_and_labels_are_those_of_mmseg(data: str, tmp_path: Path):
    count = 59 if data == "pascal-context" else 19
    pairs = random_pairs(data, 3, (480, 640) if data == "nyu-depth" else (64, 96), count)
    root = write_layout(data, tmp_path / "data", pairs)
    ours = of_task(data, root)
    with DefaultScope.overwrite_default_scope("mmseg"):
        for loader in LOADERS:
            pipeline = ours[loader].dataset.pipeline
            ours[loader].dataset.pipeline = [
                t for t in pipeline if t.type.split(".")[-1][:4] in ("Load", "Pack")
            ]
            both = [
                DATASETS.build(cfg[loader].dataset) for cfg in (ours, theirs(data, root, tmp_path))
            ]
            assert len(both[0]) == len(both[1]) == 3
            assert both[0].metainfo.get("classes") == both[1].metainfo.get("classes")
            for (_, labels), one, other in zip(pairs, *both, strict=True):
                assert torch.equal(one["inputs"], other["inputs"])
                if data == "nyu-depth":
                    found = [sample["data_samples"].gt_depth_map.data for sample in (one, other)]
                    torch.testing.assert_close(*found)
                    continue
                found = [sample["data_samples"].gt_sem_seg.data for sample in (one, other)]
                assert torch.equal(*found)
                assert np.array_equal(found[0][0].numpy(), labels)


@pytest.mark.parametrize(
    ("data", "script"),
    [
        ("cityscapes", "cityscapes.py"),
        ("pascal-context", "pascal_context.py"),
        ("coco-stuff", "coco_stuff164k.py"),
    ],
)
def test_missing_labels_come_with_the_script_that_makes_them(
    data: str, script: str, tmp_path: Path
):
    root = write_layout(data, tmp_path, random_pairs(data, 2))
    for pattern in LAYOUTS[data].labels.values():
        for number in range(2):
            (root / pattern.format(number)).unlink()
    if data == "pascal-context":
        (root / "SegmentationClassContext").rmdir()
    with pytest.raises(MissingFileError) as caught:
        check_content(of_task(data, root), LOADERS)
    message = str(caught.value)
    assert f"/.mim/tools/dataset_converters/{script} {tmp_path}" in message
    assert Path(message.partition("python ")[2].split()[0]).is_file()


def test_depth_maps_of_another_unit_are_refused_before_the_start(tmp_path: Path):
    pairs = [(image, 10 * depth) for image, depth in random_pairs("nyu-depth", 2)]
    root = write_layout("nyu-depth", tmp_path, pairs)
    with pytest.raises(UserError, match=r"is farther than max_depth 10 m in .* 1000 units"):
        check_content(of_task("nyu-depth", root), LOADERS)


# What stays as on ADE20K


@pytest.mark.parametrize("arch", ["base", "large"])
@pytest.mark.parametrize(
    "task", [t for t in of_kind("maps") if TASKS[t].recipe and not t.startswith("ade20k")]
)
def test_other_data_change_nothing_but_data_and_length(task: str, arch: str):
    like = "ade20k-linear" if task.endswith("-linear") else "ade20k"
    cfg, ade = (load(recipe_name(name, arch)) for name in (task, like))
    for config in (cfg, ade):
        config.model.decode_head.pop("num_classes")
        (config.model.auxiliary_head or {}).pop("num_classes", None)
        config.model.data_preprocessor.update(size=None, test_cfg=None)
        crop, stride = (config.model.test_cfg.pop(name) for name in ("crop_size", "stride"))
        assert stride == (crop[0] * 2 // 3,) * 2
        options = {k: v for k, v in config.model.backbone.items() if k != "type"}
        config.model.backbone = vars(ViTOptions(**options))
    assert cfg.model == ade.model
    assert cfg.optim_wrapper == ade.optim_wrapper
    warm_up, fall = cfg.param_scheduler
    assert warm_up == ade.param_scheduler[0]
    assert fall | dict(end=0) == ade.param_scheduler[1] | dict(end=0)


def test_mask2former_has_the_head_of_mmseg(tmp_path: Path):
    find_bases()
    path = tmp_path / "theirs.py"
    path.write_text("_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'")
    cfg, mmseg = load(recipe_name("ade20k-mask2former", "base")), Config.fromfile(path)
    assert cfg.model.decode_head | dict(in_channels=0) == mmseg.model.decode_head | dict(
        in_channels=0
    )
    assert cfg.optim_wrapper.clip_grad.max_norm == mmseg.optim_wrapper.clip_grad.max_norm
    assert cfg.param_scheduler == mmseg.param_scheduler and cfg.train_cfg == mmseg.train_cfg
    ours, others = (c.train_dataloader.dataset.pipeline[2] for c in (cfg, mmseg))
    assert {**ours, "_scope_": 0} == {**others, "_scope_": 0}


# Tests of whole images


def test_mask2former_sees_whole_images_of_any_shape(tmp_path: Path):
    root = write_layout("ade20k", tmp_path, random_pairs("ade20k", 1, (64, 104)))
    cfg = of_task("ade20k-mask2former", root)
    model = randomise(build_segmentor(cfg)).eval()
    with DefaultScope.overwrite_default_scope("mmseg"):
        (sample,) = DATASETS.build(cfg.val_dataloader.dataset)
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([sample]))
        image = model.data_preprocessor(pseudo_collate([sample]), False)["inputs"]
        assert image.shape == (1, 3, 64, 128) and not image[..., 104:].any()
        whole = model.encode_decode(image, [dict(img_shape=(64, 128))])
    torch.testing.assert_close(result.seg_logits.data, whole[0, ..., :104])


def test_a_depth_is_the_mean_of_an_image_and_its_mirror_image(tmp_path: Path):
    root = write_layout("nyu-depth", tmp_path, random_pairs("nyu-depth", 1, (480, 640)))
    cfg = of_task("nyu-depth", root)
    model = randomise(build_segmentor(cfg)).eval()
    with DefaultScope.overwrite_default_scope("mmseg"):
        (sample,) = DATASETS.build(cfg.val_dataloader.dataset)
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([sample]))
        image = model.data_preprocessor(pseudo_collate([sample]), False)["inputs"]
        both = [model(x, None, mode="tensor") for x in (image, image.flip(3))]
        mean = (both[0] + both[1].flip(3)) / 2
    expected = torch.nn.functional.interpolate(mean, (480, 640), mode="bilinear")[0]
    torch.testing.assert_close(result.pred_depth_map.data, expected)


# Whole runs


@pytest.mark.long
@pytest.mark.parametrize("task", [*NEW, "ade20k-mask2former"])
def test_a_trial_trains_and_gives_the_metrics_of_the_task(task: str, tmp_path: Path):
    forget_runs()
    data = next(name for name in LAYOUTS if task.startswith(name))
    root = write_layout(data, tmp_path, random_pairs(data, 3, (120, 160)))
    cfg = of_task(task, root)
    prepare(cfg, RunOptions(work_dir=str(tmp_path / "run"), shorten=make_quick), TRAINING)
    runner = train(cfg, None, [])
    found = runner.val_loop.evaluator.metrics[0]
    measured = runner.message_hub.log_scalars
    assert found and {f"val/{metric.key}" for metric in TASKS[task].metrics} <= measured.keys()
    assert (tmp_path / "run/iter_4.pth").is_file()
