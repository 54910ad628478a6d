"""A checkpoint is tested as the model that it is, whatever `--weights` made of the recipe."""

import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from torch import Tensor

from milan_mm.configs import load
from milan_mm.inference.restoring import restore
from milan_mm.report.work_dir import WorkDir
from milan_mm.run.metrics import read_metrics
from milan_mm.run.records.record import model_of, read_record
from milan_mm.weights.reading import read_checkpoint
from tests.run.own_data.folders import COLOURS, coco_folder, image_folder, label_pairs
from tests.weights import zoo

# Child configs of the recipes that a CPU hardly notices.
CHILDREN = dict(
    cls="""
_base_ = "{configs}/cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes.py"
model = dict(backbone=dict(arch={arch}), head=dict(in_channels=48))
train_cfg = dict(max_epochs=1, val_interval=1)
""",
    det="""
_base_ = "{configs}/det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes.py"
model = dict(
    backbone=dict(arch={arch}, global_layers=(1, 3)),
    neck=dict(in_channels=48),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
max_iters = 2
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
""",
    seg="""
_base_ = "{configs}/seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96.py"
model = dict(
    backbone=dict(arch={arch}, out_indices=(0, 1, 2, 3)),
    neck=dict(embed_dim=48),
    decode_head=dict(in_channels=[48] * 4),
    auxiliary_head=dict(in_channels=48),
)
max_iters = 2
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
""",
)
SHARED = """
param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=False)]
total_batch = 2
auto_scale_lr = dict(base_batch_size=2)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
"""
FOLDERS: dict[str, Callable[[Path], Path]] = dict(
    cls=partial(image_folder, per_class=8), det=coco_folder, seg=label_pairs
)


METRICS = dict(
    cls="type='Accuracy', topk=(1,)",
    det="type='milan_mm.CocoMetric', metric=['bbox', 'segm'], ann_file=''",
    seg="type='IoUMetric', iou_metrics=['mIoU']",
)


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Writes a file of a system, as wide as the children and of a grid that no recipe has."""
    tiny = zoo.D, zoo.LAYERS, zoo.HEADS, zoo.PATCH, zoo.SIDE
    zoo.set_size(48, 4, 4, 8, 5)

    def write(system: str) -> Path:
        (tmp_path / system).mkdir()
        path = tmp_path / system / "weights.pth"
        torch.save(zoo.SYSTEMS[system](tmp_path / system).content, path)
        return path

    yield write
    zoo.set_size(*tiny)


@pytest.fixture
def recipe(tmp_path: Path, repo_root: Path) -> Callable[[str], str]:
    """Writes the child of a task."""

    def write(task: str) -> str:
        arch = dict(embed_dims=48, num_layers=4, num_heads=4)
        text = CHILDREN[task].format(configs=repo_root / "configs", arch=arch)
        path = tmp_path / f"{task}.py"
        text += SHARED
        for split in ("val", "test"):
            dump = dict(type="mmengine.DumpResults", out_file_path=f"{tmp_path}/{split}.pkl")
            text += f"{split}_evaluator = [dict({METRICS[task]}), {dump}]\n"
        path.write_text(text)
        return str(path)

    return write


def metrics_of(work_dir: Path) -> dict[str, float]:
    """Those of a run's last validation."""
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    return json.loads(file.read_text().splitlines()[-1])


def predictions(file: Path) -> list[Tensor]:
    """All tensors of what mmengine's `DumpResults` wrote, in order."""
    waiting, found = [pickle.loads(file.read_bytes())], []
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tensor):
            found.append(node)
        elif isinstance(node, dict | list | tuple):
            waiting += node.values() if isinstance(node, dict) else node
    return found


def keep_the_judged_split(root: Path, name: str = "test") -> Path:
    """Rename the validation split to `name` and drop the training split, classes.txt included."""
    for path in sorted(root.rglob("*val*")):
        path.rename(path.with_name(path.name.replace("val", name)))
    for path in [*root.rglob("*train*"), *root.glob("classes.txt")]:
        rmtree(path) if path.is_dir() else path.unlink()
    return root


@pytest.mark.parametrize(
    ("task", "system", "split"),
    [
        ("cls", "openai_clip", "val"),
        ("cls", "augreg_torch", "validation"),
        ("cls", "beit", "test"),
        ("det", "openai_clip", "test"),
        ("det", "beit", "val"),
        ("seg", "hf_vit", "test"),
    ],
)
def test_a_test_predicts_what_the_runs_last_validation_predicted(
    tmp_path: Path, task: str, system: str, split: str, call, weights, recipe
):
    config, run = recipe(task), tmp_path / "run"
    data = FOLDERS[task](tmp_path / "data")
    call("train", config, "--data", data, "--weights", weights(system), "--work-dir", run)
    checkpoint = str(run / (run / "last_checkpoint").read_text())
    options = ("--data", keep_the_judged_split(data, split), "--work-dir", tmp_path / "test")
    out = tmp_path / "metrics.json"
    call("test", config, checkpoint, *options, "--out", out)
    expected = metrics_of(run)
    assert {name: expected[name] for name in read_metrics(out)} == read_metrics(out)
    validated, tested = (predictions(tmp_path / f"{split}.pkl") for split in ("val", "test"))
    assert sum(tensor.is_floating_point() and tensor.numel() for tensor in tested) > 5
    assert len(validated) == len(tested)
    assert all(map(torch.equal, validated, tested))
    (test,) = WorkDir.read(tmp_path / "test").tests
    assert WorkDir.read(run).wrote_checkpoint_of(test) and test.checkpoint == checkpoint
    restored = restore(checkpoint, device="cpu")  # by nothing but the file
    assert model_of(restored.config) == read_record(read_checkpoint(checkpoint))["model"]
    means = restored.model.data_preprocessor.mean.flatten().tolist()
    assert means == pytest.approx(restored.recorded.record["model"]["statistics"]["mean"])


def test_a_command_that_contradicts_the_checkpoint_is_refused_with_both_values(
    tmp_path: Path, call, error_of, weights, recipe
):
    config, data = recipe("cls"), ("--data", FOLDERS["cls"](tmp_path / "data"))
    call(
        "train", config, *data, "--weights", weights("openai_clip"), "--work-dir", tmp_path / "run"
    )
    checkpoint = tmp_path / "run/epoch_1.pth"

    def refusal(*arguments: object) -> str:
        return error_of("test", *arguments, "--work-dir", tmp_path / "test")

    fields = ("--cfg-options", "model.backbone.act=GELU")
    assert refusal(config, checkpoint, *data, *fields).endswith(
        "epoch_1.pth: model.backbone.act is 'QuickGELU' in the checkpoint and 'GELU' here: leave "
        "that option out"
    )
    fields = ("--cfg-options", "model.data_preprocessor.mean=[1,2,3]")
    assert "model.data_preprocessor.mean is [122.771, 116.746, 104.094] in the checkpoint" in (
        refusal(config, checkpoint, *data, *fields)
    )
    assert "is 'ImageClassifier' in the checkpoint and 'EncoderDecoder' here" in (
        refusal(recipe("seg"), checkpoint)
    )
    (data[1] / "val/green").rename(data[1] / "val/violet")
    assert "which differ from label 1 on, 'green' against 'red'" in (
        refusal(config, checkpoint, *data)
    )
    assert not (tmp_path / "test").exists()


@pytest.mark.parametrize(
    ("task", "number"),
    [("cls", "num_classes=2"), ("det", "model.roi_head.bbox_head.num_classes=2"), ("seg", "")],
)
def test_own_data_that_a_command_forgets_are_named(
    tmp_path: Path, task: str, number: str, call, error_of, recipe
):
    config, run = recipe(task), tmp_path / "run"
    two = dict(classes=COLOURS[:2], per_class=8) if task == "cls" else {}
    two |= dict(categories=COLOURS[:2]) if task == "det" else {}
    folder = dict(cls=image_folder).get(task, FOLDERS[task])
    root = folder(tmp_path / "my data", **two)
    text = Path(config).read_text().replace("ann_file=''", "ann_file='no.json'")
    Path(config).write_text(text)
    call("train", config, "--data", root, "--img-size", 96, "--work-dir", run)
    checkpoint = run / (run / "last_checkpoint").read_text()
    classes = len(read_checkpoint(checkpoint)["meta"]["milan_mm"]["classes"])
    expected = f"{checkpoint} was trained with --data {root} on {classes} classes: pass --data DIR"
    test = ("test", config, checkpoint, "--work-dir", tmp_path / "test")
    assert error_of(*test).endswith(expected)
    if number:
        assert error_of(*test, "--cfg-options", number).endswith(expected)
    assert error_of("train", config, "--resume", "--work-dir", run).endswith(
        f"{checkpoint}: its run was started with --data '{root}' --img-size 96: repeat them"
    )
    assert error_of("test", config, run).endswith(
        f"'{run}' is a folder: name a checkpoint; its newest is {checkpoint}"
    )
    gone = error_of("test", config, run / "gone.pth")
    assert gone.endswith(f"checkpoint '{run}/gone.pth' does not exist")
    # the config that the run wrote names the data itself
    call("test", run / f"{task}.py", checkpoint, "--work-dir", tmp_path / "test")


def test_a_config_that_a_test_writes_starts_the_same_training_again(
    tmp_path: Path, call, weights, recipe
):
    config, data = recipe("cls"), ("--data", FOLDERS["cls"](tmp_path / "data"))
    file, run = weights("beit"), tmp_path / "run"
    call("train", config, *data, "--weights", file, "--work-dir", run)
    call("test", config, run / "epoch_1.pth", *data, "--work-dir", tmp_path / "test")
    (written,) = (tmp_path / "test").glob("*/cls.py")
    trained, tested = load(run / "cls.py"), load(written)
    assert model_of(tested) == model_of(trained)
    for_run_json = ("command", "changes")
    assert tested.origin == {k: v for k, v in trained.origin.items() if k not in for_run_json}
    assert tested.model.backbone.init_cfg.checkpoint == str(file)


@pytest.mark.parametrize(("task", "system"), [("cls", "openai_clip"), ("seg", "beit")])
def test_a_resumed_run_needs_no_weights_and_ends_as_the_undisturbed_one(
    tmp_path: Path, task: str, system: str, call, weights, recipe
):
    config, file = recipe(task), weights(system)
    data = ("--data", FOLDERS[task](tmp_path / "data"))
    save_often = ("--cfg-options", "default_hooks.checkpoint.interval=1")
    if task == "cls":
        save_often += ("train_cfg.max_epochs=2",)
    call("train", config, *data, "--weights", file, "--work-dir", tmp_path / "whole", *save_often)
    expected = predictions(tmp_path / "val.pkl")
    file.unlink()
    first = tmp_path / "whole" / ("epoch_1.pth" if task == "cls" else "iter_1.pth")
    call("train", config, *data, "--resume", first, "--work-dir", tmp_path / "rest", *save_often)
    found = predictions(tmp_path / "val.pkl")
    if task == "cls":  # flips and dropout of segmentation draw other numbers after a start
        assert len(found) == len(expected) and all(map(torch.equal, found, expected))
    last = first.name.replace("1", "2")
    whole, rest = (
        read_record(read_checkpoint(tmp_path / name / last)) for name in ("whole", "rest")
    )
    assert rest == whole
    cfg = load(tmp_path / "rest" / f"{task}.py")
    assert model_of(cfg) == whole["model"]
    assert cfg.model.backbone.init_cfg.checkpoint == str(file)
