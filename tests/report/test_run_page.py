"""The page of a work directory: all parts, in the right order, escaped, and whole."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.errors import MissingFileError, UserError
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.report.run_page import run_page
from milan_mm.report.work_dir import WorkDir
from milan_mm.run.start.lock import FILE
from tests.report.folders import record, train_row, write_part, write_run, write_test
from tests.report.html import read


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        "finished",  # state
        "400 training images",  # plan
        "python tools/train.py seg/own --data '<b>'",  # command
        "from iteration 50 on",  # its resumption
        "/data/<mae>.pth",  # weights
        "pos_embed (1, 145, 192) to (1, 144, 192)",
        "'mean', of MAE's recipe",
        "optim_wrapper.optimizer.lr",  # change of the recipe
        "training waits for its <images>",  # warning
        "<sand>",  # class
        "400 in data/<ade>",  # data
        "Python 3.11.7 (main)",  # environment
        "Gradient norm",
        "20 min",  # both parts together
    ],
)
def test_a_page_has_every_part(run, part):
    path = run / "20261128_100000/vis_data/scalars.json"
    path.write_text(path.read_text().replace('"time"', '"grad_norm": 1.5, "time"'))
    assert part in read(run_page(run)).words


def test_a_name_cannot_become_html(tmp_path):
    evil = "<script>alert('x')</script>\"&"
    work_dir = tmp_path / "<i>work"
    write_part(
        work_dir,
        10,
        [train_row(10, **{f"loss_{evil}": 1.0}), {"step": 10, f"knn/{evil}": 3.0}],
        command=f"python {evil}",
        plan=[evil],
        changes=[dict(field=evil, recipe=evil, now=[evil])],
        record=record(recipe=evil, classes=[evil], versions={evil: evil}, options={evil: evil}),
    )
    Image.new("RGB", (4, 4)).save(work_dir / "<img onerror=alert(1)>.png")
    page = run_page(work_dir)
    reader = read(page)
    assert reader.words.count(evil) >= 6
    assert "<script" not in page and "<i>" not in page and "<img onerror" not in page


def test_what_was_repeated_after_a_resumption_counts_once_as_it_was_done_last(run):
    curves = WorkDir.read(run).curves
    assert list(curves.train["loss"]) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert curves.train["loss"][60] == 1.0
    assert curves.val["mIoU"] == {50: 60.0, 100: 65.0}
    assert curves.resumed == [50]


def test_another_split_of_the_batch_counts_the_same_updates(tmp_path):
    write_part(tmp_path, 10, [train_row(step) for step in (20, 40)])
    rows = [train_row(step) for step in (240, 320, 400)]
    write_part(tmp_path, 12, rows, start=160, accumulation=4, iterations=400)
    work_dir = WorkDir.read(tmp_path)
    assert list(work_dir.curves.train["loss"]) == [20, 40, 60, 80, 100]
    assert work_dir.done == work_dir.total == 100 and work_dir.state == "finished"
    assert work_dir.curves.train["images_per_second"][100] == 2 / 0.5


def test_a_run_that_was_started_anew_has_only_its_own_curve(tmp_path):
    write_part(tmp_path, 10, [train_row(step) for step in (10, 20, 30)])
    write_part(tmp_path, 12, [train_row(15, loss=2.0)], start=0)
    curves = WorkDir.read(tmp_path).curves
    assert curves.train["loss"] == {15: 2.0} and not curves.resumed


def test_validations_that_name_no_step_stand_where_they_were_made(tmp_path):
    """mmdet logs step 0."""
    rows = [train_row(step) for step in (45, 95)]
    rows = [rows[0], dict(mIoU=1.0, step=0), rows[1], dict(mIoU=2.0, step=0)]
    write_part(tmp_path, 10, rows)
    assert list(WorkDir.read(tmp_path).curves.val["mIoU"]) == [50, 100]


def test_the_best_validation_is_the_highest_that_measured_something(tmp_path):
    name = "coco/bbox_mAP"
    values = [-1.0, 0.25, 0.75, 0.5]  # -1 is COCO's "nothing to measure"
    rows = [train_row(10)]
    for step, value in zip((20, 40, 60, 80), values, strict=True):
        rows += [train_row(step), {name: value, "step": step}]
    write_part(tmp_path, 10, rows, val_interval=20)
    words = read(run_page(tmp_path)).words
    assert "best box AP 75.0 % iteration 60" in words
    assert "last, iteration 80 best, iteration 60 box AP, % 50.0 75.0" in words


def test_the_best_depths_are_those_of_the_lowest_error(tmp_path):
    rows = [train_row(10)]
    for step, value in ((20, 0.5), (40, 0.373), (60, 0.4)):
        rows += [train_row(step), dict(d1=value, rmse=value, step=step)]
    write_part(tmp_path, 10, rows, val_interval=20)
    words = read(run_page(tmp_path)).words
    assert "best RMSE 0.373 m iteration 40" in words and "d1, % 40.0 50.0 iteration 20" in words


def test_a_place_that_all_values_share_is_said_once(tmp_path):
    rows = [train_row(50), dict(mIoU=60.0, mAcc=70.0, aAcc=80.0, step=50)]
    write_part(tmp_path, 10, rows)
    words = read(run_page(tmp_path)).words
    table = words[words.index("validation value") : words.index("Curves Loss")]
    assert table.count("iteration 50") == 1 and "mean accuracy, % 70.0" in table


def test_sizes_of_objects_that_do_not_occur_are_left_out_and_named(tmp_path):
    values = {"coco/bbox_mAP": -1.0, "coco/bbox_mAP_s": -1.0, "coco/bbox_mAP_m": 0.5}
    write_part(tmp_path, 10, [train_row(50), values | dict(step=50)])
    write_test(tmp_path, 14, values, written_by="20261128_100000")
    words = read(run_page(tmp_path)).words
    assert words.count("box AP, medium objects, % 50.0") == 2
    assert words.count("box AP, % undefined") == 2
    assert "box AP, small" not in words
    assert words.count("Left out, since the data have none: small objects.") == 2


def test_what_was_measured_before_the_training_is_called_so(tmp_path):
    write_part(tmp_path, 10, [{"knn/top1": 20.0, "iter": 0, "step": 0}, train_row(20)])
    words = read(run_page(tmp_path)).words
    assert "best k-NN top-1 20.0 % before the training" in words and "iteration 0" not in words


def test_a_library_is_named_once(tmp_path):
    write_part(tmp_path, 10, [train_row(10)])
    log = tmp_path / "20261128_100000/20261128_100000.log"
    text = log.read_text().replace("2.10.0", "2.10.0+cu128\n    MMEngine: 0.10.12")
    log.write_text(text)
    write_part(
        tmp_path,
        12,
        [train_row(10)],
        record=record(versions={"torch": "2.10.0", "onedl-mmengine": "0.10.12"}),
    )
    (tmp_path / "20261128_120000/20261128_120000.log").write_text(text)
    words = read(run_page(tmp_path)).words
    assert "PyTorch 2.10.0+cu128" in words and "torch 2.10.0" not in words
    assert "onedl-mmengine 0.10.12" in words and "MMEngine" not in words
    (tmp_path / "20261128_120000/20261128_120000.log").unlink()
    log.unlink()  # nothing but the record is left
    assert "torch 2.10.0" in read(run_page(tmp_path)).words


def test_a_total_batch_that_a_trial_does_not_set_is_told_all_the_same(tmp_path):
    change = dict(field="total_batch", recipe=64, now=None)
    write_part(tmp_path, 10, [train_row(10)], changes=[change], record=record(total_batch=2))
    assert "total_batch 64 not set; 2 by the split" in read(run_page(tmp_path)).words


def test_epochs_and_knn_stand_at_their_updates(tmp_path):
    """mmengine counts validations of such runs in epochs, and our k-NN names its iteration."""
    knn = {"knn/top1": 20.0, "knn/seconds": 3.0, "epoch": 0, "iter": 0, "step": 0}
    rows = [knn, train_row(20, epoch=1), {"accuracy/top1": 30.0, "step": 1}]
    rows += [train_row(45, epoch=2), knn | {"knn/top1": 25.0, "iter": 50, "step": 50}]
    rows += [{"accuracy/top1": 40.0, "step": 2}]
    schedule = dict(updates=100, updates_per_epoch=25, epochs=4)
    folder = write_part(tmp_path, 10, rows, record=record(schedule=schedule))
    config = folder / "vis_data/config.py"
    config.write_text(config.read_text().replace("max_iters=100", "max_epochs=4"))
    work_dir = WorkDir.read(tmp_path)
    assert work_dir.curves.val["knn/top1"] == {0: 20.0, 50: 25.0}
    assert work_dir.curves.val["accuracy/top1"] == {25: 30.0, 50: 40.0}
    words = read(run_page(tmp_path)).words
    assert "stopped at epoch 1.8 of 4" in words and "last, epoch 2 best, epoch 2" in words
    assert "k-NN top-1, % 25.0 25.0" in words and "seconds" not in words


def test_a_run_whose_checkpoints_were_moved_is_finished_by_its_log(tmp_path):
    folder = write_part(tmp_path, 10, [train_row(90)])
    assert WorkDir.read(tmp_path).state == "stopped"
    with (folder / f"{folder.name}.log").open("a") as log:
        log.write("2026/11/28 10:11:00 - mmengine - INFO - Saving checkpoint at 100 iterations\n")
    assert WorkDir.read(tmp_path).state == "finished"


def test_a_part_that_logged_nothing_changes_nothing(run):
    before = WorkDir.read(run).curves.train
    write_part(run, 13, [], start=100)
    assert WorkDir.read(run).curves.train == before


@pytest.mark.parametrize(
    ("steps", "state", "progress"),
    [((10, 40), "stopped", "stopped at iteration 40 of 100"), ((50, 100), "finished", "finished")],
)
def test_the_state_follows_from_how_far_it_came(tmp_path, steps, state, progress):
    write_part(tmp_path, 10, [train_row(step) for step in steps])
    assert WorkDir.read(tmp_path).state == state
    assert progress in read(run_page(tmp_path)).words


HOLD = """import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_is_running_as_long_as_a_process_holds_its_lock(tmp_path):
    write_part(tmp_path, 10, [train_row(10)])
    command = [sys.executable, "-c", HOLD, str(tmp_path / FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as training:
        assert training.stdout.readline() == b"held\n"
        assert WorkDir.read(tmp_path).state == "running"
        training.communicate()
    assert WorkDir.read(tmp_path).state == "stopped"


def test_a_running_one_says_how_long_it_will_take(tmp_path, monkeypatch):
    write_part(tmp_path, 10, [train_row(10), train_row(20)])
    monkeypatch.setattr("milan_mm.report.work_dir.holder", lambda _: "process 1 on a machine")
    words = read(run_page(tmp_path)).words
    # 80 updates of 8 images, 16 of which take a second
    assert "running at iteration 20 of 100" in words and "of 100, about 40 s left" in words


def test_a_run_of_an_earlier_version_has_what_its_files_say(tmp_path):
    write_part(tmp_path, 10, [train_row(10), train_row(100)], with_facts=False)
    (tmp_path / "upernet_own.py").write_text("x = 1")
    work_dir = WorkDir.read(tmp_path)
    assert (work_dir.name, work_dir.task, work_dir.state) == ("upernet_own", "seg", "finished")
    words = read(run_page(tmp_path)).words
    assert "The command was not recorded" in words and "Changes to the recipe" not in words


def test_torn_and_foreign_files_are_passed_over(run):
    with (run / "20261128_120000/vis_data/scalars.json").open("a") as file:
        file.write('[1]\n{"loss": NaN, "iter": 101, "step": 101}\n{"loss": 0.5, "ite')
    (run / "encoder_weights.json").write_text("[")
    (run / "20261128_100000/run.json").write_text('{"version": 1}')
    (run / "confusion.json").write_text('{"classes": ["a"], "unit": "pixels", "matrix": [[1, 2]]}')
    (run / "broken.png").write_bytes(b"no picture")
    (run / "epoch_1.pth").write_bytes(b"no checkpoint")
    words = read(run_page(run)).words
    assert "Initial weights" not in words and "Confusion" not in words and "finished" in words


def test_pictures_are_inside_and_some_of_many(run):
    folder = run / "20261128_100000/vis_data/vis_image"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (20, 1000, 3), np.uint8)
    for step in range(1, 30):
        Image.fromarray(noise).save(folder / f"masks_{step}.png", compress_level=0)
    reader = read(run_page(run))
    shown = [str(image["alt"]) for image in reader.all("img")]
    names = [Path(name).stem for name in shown]
    assert (names[0], names[-1], len(names)) == ("masks_1", "masks_29", 6)
    assert "6 of 29 pictures in 20261128_100000/vis_data/vis_image" in reader.words
    data = str(reader.all("img")[0]["src"]).partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (900, 18)


def test_a_test_adds_its_numbers_and_those_of_each_class(run):
    metrics = {"mIoU": 65.25, "IoU[<sand>]": 90.5, "IoU[grass]": float("nan"), "time": 1.0}
    write_test(run, 14, metrics, written_by="20261128_120000")
    words = read(run_page(run)).words
    assert "Tests (tools/test.py) 2026-11-28 14:00 mIoU, % 65.2" in words
    assert "2026-11-28 14:00: runs/iter_100.pth (iteration 100)" in words
    assert "<sand> 90.5 grass undefined" in words and "did not write" not in words


OTHERS = dict(
    another_time=dict(written_by="20261128_093000"),
    same_second_other_weights=dict(written_by="20261128_120000", encoder=dict(source="mae.pth")),
    no_training_of_ours=dict(written_by=None),
)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_test_of_another_runs_checkpoint_stands_apart(run, other):
    write_test(run, 13, {"mIoU": 65.25, "IoU[grass]": 60.0}, written_by="20261128_100000")
    folder = write_test(run, 14, {"mIoU": 91.5, "IoU[grass]": 99.0}, **other)
    matrix = dict(classes=["a"], unit="pixels", matrix=[[2]])
    (folder / "confusion.json").write_text(json.dumps(matrix))
    words = read(run_page(run)).words
    own, _, others = words.partition("Tests of checkpoints that this run did not write")
    assert "65.2" in own and "91.5" not in own and "2026-11-28 14:00 mIoU, % 91.5" in others
    assert "Test of 2026-11-28 13:00: runs/iter_100.pth (iteration 100) class" in others
    assert (
        "Test of 2026-11-28 14:00: runs/iter_100.pth (iteration 100), which this run did not write"
        in words[words.index("Rows are true classes") - 200 :]
    )


def test_the_paper_is_compared_with_the_runs_own_numbers_only(tmp_path):
    name = "upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
    write_part(tmp_path, 10, [train_row(100), dict(mIoU=51.2, step=100)], record=record(name))
    write_test(tmp_path, 14, {"mIoU": 91.5}, written_by="20261128_093000")
    assert "in % mIoU this run 51.2" in read(run_page(tmp_path)).words


def test_a_test_of_an_earlier_version_is_the_runs_own_by_its_log_and_folder(run):
    for hour, checkpoint in ((13, run / "iter_100.pth"), (14, "elsewhere/iter_100.pth"), (15, "")):
        folder = write_test(run, hour, {"mIoU": float(hour)}, written_by=None)
        (folder / "tested.json").unlink()
        line = f"2026/11/28 {hour}:00:00 - mmengine - INFO - Load checkpoint from {checkpoint}\n"
        (folder / f"{folder.name}.log").write_text(line if checkpoint else "")
    work_dir = WorkDir.read(run)
    assert [test.metrics["mIoU"] for test in work_dir.own_tests] == [13.0]
    words = read(run_page(run)).words
    assert "14:00: elsewhere/iter_100.pth" in words
    assert "15:00: a checkpoint that was not recorded" in words


def test_where_nothing_was_trained_a_test_is_named_by_its_checkpoint(tmp_path):
    write_test(tmp_path, 14, {"mIoU": 91.5}, written_by="20261128_093000")
    words = read(run_page(tmp_path)).words
    assert "runs/iter_100.pth (iteration 100)" in words and "did not write" not in words


def test_a_recipe_of_the_paper_stands_beside_its_numbers(tmp_path):
    name = "upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512"
    rows = [train_row(100), dict(mIoU=51.234, step=100)]
    data = dict(train=dict(count=8), val=dict(count=2000))
    write_part(tmp_path, 10, rows, record=record(recipe=name, data=data))
    words = read(run_page(tmp_path)).words
    assert "ViT-B/16, in % mIoU this run 51.2" in words
    assert "MILAN 52.7" in words and "2208.06049" in words
    assert "This run is not of their setting: 1 setting of the recipe changed" in words
    assert "8 training and 2,000 validation images" in words


def test_what_could_not_be_measured_stands_beside_the_paper_as_undefined(tmp_path):
    name = recipe_name("coco", "base").rpartition("/")[2]
    rows = [train_row(100), {"coco/bbox_mAP": -1.0, "coco/segm_mAP": 0.123, "step": 100}]
    write_part(tmp_path, 10, rows, record=record(recipe=name))
    assert "this run undefined 12.3" in read(run_page(tmp_path)).words


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"holds no log, scalars or checkpoint of a run"):
        run_page(tmp_path)
    with pytest.raises(MissingFileError, match="does not exist"):
        run_page(tmp_path / "gone")
    write_part(tmp_path / "a", 10, [train_row(10)])
    with pytest.raises(UserError, match="is not a work directory but holds some: name one of 'a'"):
        run_page(tmp_path)
