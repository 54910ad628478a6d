"""The tools as a user meets them: whole runs in processes of their own, and one-line errors."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from milan_mm.registry import MODELS
from milan_mm.run.metrics import read_metrics
from tests.helpers import STATS, milan_config
from tests.run.own_data.folders import image_folder
from tests.tools.conftest import TOOLS

CONFIG = """
_base_ = ["{repo}/configs/_base_/default_runtime.py"]
model = dict(
    type="milan_mm.MILAN",
    data_preprocessor=dict(type="SelfSupDataPreprocessor", to_rgb=True, **{stats}),
    backbone=dict(
        type="milan_mm.PlainViT",
        arch=dict(embed_dims=32, num_layers=2, num_heads=2),
        img_size=96,
        patch_size=8,
        fixed_pos_embed=True,
    ),
    mask_generator=dict(type="milan_mm.SemanticMaskGenerator", mask_ratio=0.75),
    decoder=dict(
        type="milan_mm.PromptingDecoder",
        embed_dims=32,
        grid_size=(12, 12),
        target_dims=128,
        decoder_embed_dims=32,
        num_layers=1,
        num_heads=2,
    ),
    head=dict(
        type="milan_mm.CLIPTargetHead",
        teacher=dict(
            model_name="shapes-clip", pretrained="random", input_stats={stats}, stats={stats}
        ),
    ),
)
total_batch = 8
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CustomDataset",
        data_root="images",
        with_label=False,
        pipeline=[
            dict(type="milan_mm.SeedSample"),
            dict(type="milan_mm.LoadImage"),
            dict(type="RandomResizedCrop", scale=96),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackInputs"),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3))
param_scheduler = dict(type="CosineAnnealingLR", T_max=2, convert_to_iter_based=True)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
"""


@pytest.fixture
def folder(tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with 24 images of 48 pixels and a small pretraining config."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{i:02}.png")
    (tmp_path / "tiny.py").write_text(CONFIG.format(repo=repo_root.as_posix(), stats=STATS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mistake(error_of: Callable[..., str]) -> Callable[..., str]:
    return lambda *arguments: error_of("train", *arguments)


def _losses(work_dir: Path) -> list[float]:
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    rows = map(json.loads, file.read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.long
def test_two_processes_log_the_losses_of_one_at_the_same_total_batch(
    folder: Path, process, warm_process
):
    warm_process("train.py", "tiny.py", "--work-dir", "one")
    done = process("dist_train.sh", "tiny.py", 2, "--work-dir", "two")
    assert "total batch 8 = 4 per process x 2 process(es) x 1" in done.stdout + done.stderr
    one, two = _losses(folder / "one"), _losses(folder / "two")
    assert len(one) == len(two) == 6
    assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.long
def test_a_resumed_run_continues_with_the_losses_of_an_uninterrupted_one(
    folder: Path, warm_process
):
    warm_process("train.py", "tiny.py", "--work-dir", "whole")
    warm_process("train.py", "tiny.py", "--work-dir", "rest", "--resume", "whole/epoch_1.pth")
    assert _losses(folder / "rest") == pytest.approx(_losses(folder / "whole")[3:], abs=1e-6)


@pytest.mark.long
def test_a_trial_ends_with_a_checkpoint_whose_encoder_can_be_exported(
    folder: Path, process, warm_process
):
    warm_process("train.py", "tiny.py", "--quick")
    work_dir = folder / "work_dirs/tiny-quick"
    assert len(_losses(work_dir)) == 4
    done = process("export_encoder.py", work_dir / "epoch_1.pth", "encoder.safetensors")
    assert "holds system MILAN" in done.stdout
    with safe_open("encoder.safetensors", "pt") as file:
        assert file.metadata()["embed_dims"] == "32"
        assert "layers.1.attn.qkv.weight" in file.keys()  # noqa: SIM118 (no mapping)


@pytest.mark.long
def test_own_data_train_and_are_tested_by_one_option(folder: Path, process):
    image_folder(folder / "fruit")
    recipe = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
    done = process("train.py", recipe, "--data", "fruit", "--quick")
    assert done.stdout.startswith("--data fruit: 6 images in 'fruit/train', 6 in 'fruit/val'\n")
    work_dir = Path(f"work_dirs/{Path(recipe).name}-fruit-quick")
    assert len(_losses(work_dir)) == 4
    options = ("--data", "fruit", "--out", "new/metrics.json")
    done = process("test.py", recipe, work_dir / "epoch_1.pth", *options)
    (top1,) = re.findall(r"^accuracy/top1: (\S+)$", done.stdout, re.MULTILINE)
    assert read_metrics("new/metrics.json")["accuracy/top1"] == pytest.approx(float(top1), abs=1e-4)
    assert re.search(r"^accuracy/top1: (0|16|33|50|66|83|100)\.", done.stdout, re.MULTILINE)


@pytest.mark.long
def test_a_trained_checkpoint_is_converted_and_trains_on_after_the_way_back(
    folder: Path, process, warm_process
):
    warm_process("train.py", "tiny.py", "--quick")
    done = process(
        "convert_checkpoint.py",
        "work_dirs/tiny-quick/epoch_1.pth",
        "official.pth",
        "--to",
        "official",
    )
    assert "epoch_1.pth: layout milan_mm" in done.stdout and "optimizer" in done.stdout
    warm_process("convert_checkpoint.py", "official.pth", "back.pth", "--to", "milan_mm")
    done = warm_process(
        "train.py", "tiny.py", "--work-dir", "on", "--cfg-options", "load_from=back.pth"
    )
    log = done.stdout + done.stderr
    assert "Load checkpoint from back.pth" in log and "do not match" not in log


def test_a_conversion_prints_its_report_and_the_new_file(
    folder: Path, call, capsys: pytest.CaptureFixture
):
    model = MODELS.build(milan_config())
    torch.save(dict(state_dict=model.state_dict(), optimizer={}), "epoch_1.pth")
    capsys.readouterr()
    call("convert_checkpoint", "epoch_1.pth", "new/official.pth", "--to", "official")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "epoch_1.pth: layout milan_mm" and lines[-1] == "new/official.pth"
    assert any("left behind  optimizer" in line for line in lines)
    assert "blocks.0.attn.qkv.weight" in torch.load("new/official.pth", weights_only=True)["model"]


def test_a_file_that_cannot_be_converted_is_answered_with_one_line(
    folder: Path, call, capsys: pytest.CaptureFixture
):
    torch.save({"conv1.weight": torch.zeros(3)}, "resnet.pth")
    for source, message in (
        ("gone.pth", "error: weights file 'gone.pth' does not exist"),
        ("resnet.pth", "error: resnet.pth holds no pretraining checkpoint"),
    ):
        with pytest.raises(SystemExit) as stop:
            call("convert_checkpoint", source, "out.pth", "--to", "milan_mm")
        errors = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2 and len(errors) == 1 and errors[0].startswith(message)
    assert not (folder / "out.pth").exists()


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh", "slurm_train.sh"])
def test_a_launcher_without_arguments_shows_its_usage(process, name: str):
    assert f"bash tools/{name} " in process(name, expect=2).stdout


@pytest.mark.long
def test_a_mistake_on_two_processes_is_told_once_and_without_a_traceback(
    folder: Path, warm, warm_process
):
    options = ("--standalone", "--nproc-per-node", 2, TOOLS / "train.py", "--launcher", "pytorch")
    done = warm_process("_torchrun.py", *options, "tiny.py", "--weights", "gone.pth", expect=2)
    assert done.stderr.count("error: ") == 1 and "gone.pth" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_of_the_second_process_alone_is_told(
    folder: Path, warm, warm_process, monkeypatch, repo_root
):
    Path("second.py").write_text(
        "import os, time\n"
        "from milan_mm.run import errors\n"
        "errors.SECONDS_FOR_THE_FIRST = 0.5\n"
        "with errors.user_errors():\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise ValueError('only here')\n"
        "    time.sleep(100)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(repo_root))
    options = ("--standalone", "--nproc-per-node", 2)
    done = warm_process("_torchrun.py", *options, "second.py", expect=2)
    assert done.stderr.count("error: only here\n") == 1
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_told_in_one_line(folder: Path, warm_process):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = ("--master-addr", "127.0.0.1", "--master-port", port)
        done = warm_process("_torchrun.py", *where, "--nproc-per-node", 1, "nothing.py", expect=2)
    assert (
        done.stderr == f"error: port {port} is taken by another program: set PORT to a free one\n"
    )


def test_slurm_starts_one_task_per_gpu(folder: Path, repo_root: Path):
    fake = folder / "bin/srun"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", str(repo_root / "tools/slurm_train.sh"), "part", "job", "c.py", "16", "--quick"],
        env=os.environ | dict(PATH=f"{fake.parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "--signal=USR1@120 --gres=gpu:8 --ntasks=16 --ntasks-per-node=8" in done.stdout
    assert done.stdout.strip().endswith("train.py c.py --quick --launcher slurm")


def test_an_unknown_config_is_answered_with_the_closest_names(folder: Path, mistake):
    error = mistake("milan_vit-bse-p16")
    assert error.startswith("error: config 'milan_vit-bse-p16'")
    assert "milan_vit-base-p16" in error


def test_a_missing_data_folder_is_named_and_nothing_is_written(folder: Path, mistake):
    error = mistake("tiny.py", "--cfg-options", "train_dataloader.dataset.data_root=gone")
    assert "'gone' (train_dataloader.dataset.data_root) does not exist" in error
    assert not (folder / "work_dirs").exists()


def test_annotations_of_other_classes_are_named_and_nothing_is_written(folder: Path, mistake):
    for part in ("train2017", "val2017", "annotations"):
        (folder / "data/coco" / part).mkdir(parents=True)
    image = dict(id=1, file_name="1.jpg", height=8, width=8)
    content = dict(images=[image], annotations=[], categories=[dict(id=1, name="screw")])
    for part in ("train", "val"):
        path = folder / f"data/coco/annotations/instances_{part}2017.json"
        path.write_text(json.dumps(content))
    error = mistake("det/mask-rcnn_vit-base-p16_8xb2-amp-lsj-12e_coco")
    assert (
        "not have 80 of the config's 80 classes, first 'person'; its categories are 'screw'"
        in error
    )
    assert not (folder / "work_dirs").exists()


def test_own_data_that_do_not_fit_are_named_before_anything_is_written(folder: Path, mistake):
    image_folder(folder / "fruit")
    (folder / "fruit/val/red").rename(folder / "fruit/val/pink")
    recipe = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
    error = mistake(recipe, "--data", "fruit", "--quick")
    assert error.startswith("error: 1 of 3 classes in 'fruit/val' are not among the 3 in ")
    assert not (folder / "work_dirs").exists()


def test_an_impossible_mask_ratio_is_named_and_nothing_is_left_behind(folder: Path, mistake):
    error = mistake("tiny.py", "--cfg-options", "model.mask_generator.mask_ratio=1.5")
    assert "mask_ratio 1.5 is outside (0, 1)" in error
    assert not (folder / "work_dirs").exists()


def test_an_image_size_that_the_patch_does_not_divide_is_named(folder: Path, mistake):
    error = mistake("tiny.py", "--cfg-options", "model.backbone.img_size=100")
    assert "img_size (100, 100) is not a multiple of patch_size 8" in error
    assert not (folder / "work_dirs").exists()


def test_crops_of_another_size_than_the_encoder_expects_are_named(folder: Path, mistake):
    pipeline = "train_dataloader.dataset.pipeline.2.scale=(100,100)"
    error = mistake("tiny.py", "--cfg-options", pipeline, "train_dataloader.num_workers=0")
    assert "got images of 100x100 pixels, but backbone.img_size is 96x96" in error


def test_too_many_unreadable_images_stop_the_run_with_one_line(folder: Path, mistake):
    (folder / "images/07.png").write_bytes(b"no image")
    error = mistake("tiny.py")
    assert "1 of" in error and "images could not be read, the limit is 1%" in error
    (log,) = folder.glob("work_dirs/tiny/*/*.log")
    assert "skipped unreadable image images/07.png" in log.read_text()


def test_weights_that_are_missing_or_of_another_model_are_named(folder: Path, mistake):
    assert "'gone.pth' does not exist" in mistake("tiny.py", "--weights", "gone.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, "resnet.pth")
    error = mistake("tiny.py", "--weights", "resnet.pth")
    assert "resnet.pth holds no complete plain-ViT encoder" in error and "conv1.weight" in error
    torch.save({"patch_embed.projection.weight": torch.zeros(64, 3, 8, 8)}, "wide.pth")
    error = mistake("tiny.py", "--weights", "wide.pth")
    assert "error: wide.pth holds no blocks 'layers.*'" in error
    assert not (folder / "work_dirs").exists()


def test_fewer_images_than_a_batch_are_counted_in_the_message(folder: Path, mistake):
    options = ("total_batch=32", "train_dataloader.batch_size=32")
    error = mistake("tiny.py", "--cfg-options", *options)
    assert "24 training images make no update of 32 images: pass" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "--quick"], "error: --quick and --resume exclude each other"),
        (["--resume", "gone.pth"], "error: checkpoint 'gone.pth' does not exist: give a file"),
        (["--init-from", "gone.pth"], "error: checkpoint 'gone.pth' does not exist"),
        (
            ["--init-from", "a.pth", "--resume"],
            "error: --init-from and --resume exclude each other",
        ),
    ],
)
def test_a_start_that_cannot_be_is_named_and_nothing_is_written(
    folder: Path, mistake, options: list[str], message: str
):
    assert mistake("tiny.py", *options).startswith(message)
    assert not (folder / "work_dirs").exists()


def test_the_checkpoints_of_another_run_are_not_replaced(folder: Path, mistake):
    (folder / "run").mkdir()
    torch.save(dict(meta=dict(epoch=1, iter=30)), "run/epoch_1.pth")
    before = Path("run/epoch_1.pth").read_bytes()
    for options in ([], ["--quick"]):
        error = mistake("tiny.py", "--work-dir", "run", *options)
        assert error.startswith(
            "error: 'run' holds 1 checkpoint(s) of an earlier run, 'epoch_1.pth'"
        )
    assert Path("run/epoch_1.pth").read_bytes() == before


def test_a_batch_per_gpu_of_nothing_is_named(folder: Path, mistake):
    assert "--batch-per-gpu: 0: give 1 or more" in mistake("tiny.py", "--batch-per-gpu", 0)


def test_an_option_without_a_value_is_named(folder: Path, mistake):
    assert "'total_batch' is not of the form key=value" in mistake(
        "tiny.py", "--cfg-options", "total_batch"
    )


def test_testing_a_pretraining_config_is_refused_with_the_alternative(folder: Path, error_of):
    Path("any.pth").touch()
    error = error_of("test", "tiny.py", "any.pth")
    assert "has no test_evaluator: pretraining is judged by a transfer" in error


def test_a_work_directory_that_is_a_file_is_named(folder: Path, mistake):
    Path("taken").write_text("a file")
    assert "taken" in mistake("tiny.py", "--work-dir", "taken")
    assert Path("taken").read_text() == "a file"


def test_a_report_to_replay_that_does_not_exist_is_named(folder: Path, mistake):
    assert "nonfinite_iter_3.pth" in mistake("tiny.py", "--replay", "nonfinite_iter_3.pth")


def test_a_misspelt_field_is_named(folder: Path, mistake):
    error = mistake("tiny.py", "--cfg-options", "train_dataloader.datset.data_root=images")
    assert "there is 'dataset' and no 'datset'; did you mean that?" in error
    assert not (folder / "work_dirs").exists()
