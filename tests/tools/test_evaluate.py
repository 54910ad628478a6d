"""tools/evaluate.py as a user meets it: a whole short evaluation, and one-line errors."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from timm.models.beit import Beit

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.evaluation.candidates import read_candidates
from milan_mm.evaluation.cells import FrozenCell
from milan_mm.evaluation.frozen import extraction
from milan_mm.evaluation.grid import is_in
from milan_mm.evaluation.own_schedule import OwnSchedule
from milan_mm.evaluation.planning import Evaluation
from milan_mm.evaluation.results import append_rows, read_results
from milan_mm.evaluation.tasks import TASKS
from milan_mm.run.records.canonical import settings_hash
from milan_mm.shapes.files import write_shapes
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.reading import file_sha256
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state, tiny_vit
from tests.small_data import ade20k_of, coco_of, imagenet_of
from tests.weights.samples import write_sample
from tests.weights.zoo import dino_full

SHORT = ("--protocol", "short", "--num-heads", "3", "--out", "out")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ROOT/{imagenet,coco,ade}, small."""
    root = tmp_path_factory.mktemp("data")
    write_shapes(root / "shapes", 24, 4, 3, size=64, progress=False)
    for make in (imagenet_of, coco_of, ade20k_of):
        make(root / "shapes", root)
    return root


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two tiny encoders and the data."""
    (tmp_path / "data").symlink_to(data)
    for name in ("one", "two"):
        vit = tiny_vit(
            arch=dict(embed_dims=24, num_layers=4, num_heads=3), img_size=64, patch_size=16
        )
        save_state(vit.state_dict(), tmp_path, f"{name}.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def beit(folder: Path) -> str:
    """A file of another system, whose encoder has relative positions of its own."""
    sizes = dict(img_size=64, patch_size=16, embed_dim=24, depth=4, num_heads=3)
    model = Beit(**sizes, init_values=0.1, use_rel_pos_bias=True, use_abs_pos_emb=False)
    return save_state(model.state_dict(), folder, "beit.pth").name


@pytest.fixture
def evaluate(
    call: Callable[..., None], warm: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """The tool in this process; its trainings and tests have their own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda *arguments: call("evaluate", *SHORT, *arguments)


@pytest.fixture
def mistake(error_of: Callable[..., str]) -> Callable[..., str]:
    return lambda *arguments: error_of("evaluate", *SHORT, *arguments)


def plan(weights: str, task: str, seed: int = 0, data: str = "data", images=None, **reading):
    """A cell of a short evaluation."""
    (candidate,) = read_candidates([weights], None, **(dict(num_heads=3) | reading))
    return Evaluation("short", Path(data), Path("out"), images).plan(candidate, task, seed)


# tests of own data and of recipes start detection and segmentation from plain encoders
@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "weights"),
    [
        ("finetune", "one.pth"),
        ("coco", "beit.pth"),
        ("ade20k", "beit.pth"),
    ],
)
def test_a_trained_task_gives_rows_once_and_is_kept(folder, beit, evaluate, capsys, task, weights):
    evaluate("--weights", weights, "--method", "MAE", "--tasks", task)
    rows = read_results("out/results.jsonl")
    metrics = dict(coco=["box AP", "mask AP"], ade20k=["mIoU"]).get(task, ["top-1", "top-5"])
    assert [row["metric"] for row in rows] == metrics
    assert all(0 <= row["value"] <= 100 for row in rows)
    assert {row["method"] for row in rows} == {"MAE"} and rows[0]["protocol"] == "short"
    assert rows[0]["data_counts"] == dict(train=24 if task == "finetune" else 4, val=3)
    evaluate("--weights", weights, "--method", "MAE", "--tasks", task)
    assert "1 of 1 cells are finished and kept" in capsys.readouterr().out
    assert read_results("out/results.jsonl") == rows


@pytest.mark.long
def test_a_finished_training_without_rows_is_tested_and_not_repeated(folder, evaluate):
    evaluate("--weights", "one.pth", "--tasks", "linear")
    rows = read_results("out/results.jsonl")
    assert [row["metric"] for row in rows] == ["top-1", "top-5"]
    Path("out/results.jsonl").unlink()
    (log,) = Path("out").glob("linear_*/output.log")
    before = log.stat().st_mtime_ns
    evaluate("--weights", "one.pth", "--tasks", "linear")
    assert log.stat().st_mtime_ns == before
    again = read_results("out/results.jsonl")
    assert [row["value"] for row in again] == [row["value"] for row in rows]


@pytest.mark.parametrize("task", ["coco", "ade20k", "finetune"])
def test_options_of_the_encoder_are_no_part_of_the_protocol(folder, beit, task):
    plain, other = plan("one.pth", task), plan(beit, task)
    assert other.protocol_hash == plain.protocol_hash
    assert other.config_hash != plain.config_hash


@pytest.mark.long
def test_knn_gives_a_row_for_each_encoder(folder, evaluate):
    evaluate("--weights", "one.pth", "two.pth", "--method", "MAE", "DINO", "--tasks", "knn")
    rows = read_results("out/results.jsonl")
    found = [(row["method"], row["weights"], row["metric"]) for row in rows]
    assert found == [
        ("MAE", "one.pth", "top-1"),
        ("MAE", "one.pth", "top-5"),
        ("DINO", "two.pth", "top-1"),
        ("DINO", "two.pth", "top-5"),
    ]
    assert rows[0]["protocol_hash"] == rows[2]["protocol_hash"]
    assert rows[0]["config"] == "knn_vit-w24d4-p16"
    assert rows[0]["data_counts"] == dict(train=24, val=3)
    assert (rows[0]["total_batch"], rows[0]["precision"]) == (None, "float32")


@pytest.mark.long
def test_probes_give_rows_with_what_they_chose_and_an_interval(folder, evaluate):
    tasks = ("linear-grid", "attentive", "ade20k-knn", "ade20k-logreg")
    arguments = ("--weights", "one.pth", "--method", "MAE", "--tasks", ",".join(tasks))
    evaluate(*arguments)
    rows = read_results("out/results.jsonl")
    assert [row["task"] for row in rows] == [tasks[0], tasks[0], tasks[1], tasks[1], *tasks[2:]]
    chosen = {row["task"]: set(row["chosen"]) for row in rows}
    assert chosen == {
        "linear-grid": {"blocks", "pooling", "lr", "weight_decay"},
        "attentive": {"lr", "weight_decay"},
        "ade20k-knn": {"k", "metric"},
        "ade20k-logreg": {"C"},
    }
    for row in rows:
        if row["value"]:  # null for top-5 of 3 classes, 0 where no image has a patch right
            low, high = row["interval"]
            assert low <= row["value"] <= high
    assert rows[0]["config"] == "linear-grid_vit-w24d4-p16"
    assert len({row["protocol_hash"] for row in rows}) == 4
    written = Path("out/results.jsonl").read_bytes()
    evaluate(*arguments)
    assert Path("out/results.jsonl").read_bytes() == written


def leave_one_image(root: Path) -> None:
    for path in sorted(min((root / "imagenet/train").iterdir()).iterdir())[1:]:
        path.unlink()


def leave_one_pair(root: Path) -> None:
    for part in ("images", "annotations"):
        for path in sorted((root / f"ade/ADEChallengeData2016/{part}/training").iterdir())[1:]:
            path.unlink()


def shrink_a_label_map(root: Path) -> None:
    path = max((root / "ade/ADEChallengeData2016/annotations/validation").iterdir())
    with Image.open(path) as labels:
        labels.resize((32, 16), Image.Resampling.NEAREST).save(path)


@pytest.mark.parametrize(
    ("task", "damage", "message"),
    [
        ("linear-grid", leave_one_image, "has 1 image, and settings are chosen on images held out"),
        ("attentive", leave_one_image, "has 1 image, and settings are chosen on images held out"),
        ("ade20k-knn", shrink_a_label_map, ".png' has 32x16 pixels, its image"),
        ("ade20k-logreg", leave_one_pair, "on training images held out, and there is 1 training"),
    ],
)
def test_data_that_a_probe_cannot_choose_by_are_refused(folder, mistake, task, damage, message):
    shutil.copytree(os.path.realpath("data"), "damaged")
    damage(Path("damaged"))
    assert message in mistake("--weights", "one.pth", "--tasks", task, "--data", "damaged")


@pytest.mark.long
def test_other_images_and_folders_of_hugging_face_are_taken(folder, evaluate):
    Path("own").symlink_to(folder / "data/imagenet")
    file = write_sample("hf_dinov2", folder)
    options = ("--weights", file, "--tasks", "knn", "--num-heads", "4")  # they override the 3
    evaluate(*options, "--images", "own")
    evaluate(*options)
    rows = read_results("out/results.jsonl")[::2]
    found = [(row["data"], row["method"], row["weights"]) for row in rows]
    assert found == [("own", "DINOv2", "hf_dinov2"), ("ImageNet", "DINOv2", "hf_dinov2")]
    assert rows[0]["weights_sha256"] == file_sha256(file)


@pytest.mark.long
def test_photos_of_both_splits_and_of_other_types_are_said(folder, evaluate, mistake, capfd):
    shutil.copytree("data/imagenet", "images")
    arguments = ("--weights", "one.pth", "--tasks", "knn", "--images", "images")
    evaluate(*arguments, "--print-commands", "torchrun")
    assert "training images too" not in capfd.readouterr().err
    photo = min(Path("images/train").rglob("*.JPEG"))
    shutil.copy(photo, str(photo).replace("train", "val"))
    evaluate(*arguments, "--print-commands", "torchrun")
    assert "validation images are training images too" in capfd.readouterr().err
    photo.rename(photo.with_suffix(".heic"))
    assert "are of a type that is not read" in mistake(*arguments)


def test_teacher_and_student_of_a_file_are_two_cells(folder, evaluate):
    save_state(dino_full().content, folder, "dino.pth")
    options = ("--weights", "dino.pth", "--tasks", "knn", "--num-heads", "4")
    # AugReg's statistics are others, iBOT's are DINO's
    for more in ([], ["--student"], ["--system", "AugReg"], ["--system", "iBOT"]):
        evaluate(*options, *more)
    rows = read_results("out/results.jsonl")[::2]
    assert [row["method"] for row in rows] == ["DINO", "DINO", "AugReg"]
    assert len({row["config_hash"] for row in rows}) == 3


@pytest.mark.parametrize("task", ["coco", "finetune"])
def test_the_student_is_another_cell_of_trained_tasks_too(folder, task):
    vit = tiny_vit(arch=dict(embed_dims=24, num_layers=4, num_heads=3), img_size=64, patch_size=16)
    state = vit.state_dict()
    save_state(dict(teacher=state, student=state), folder, "both.pth")
    one, two = (plan("both.pth", task, student=student) for student in (False, True))
    assert one.config_hash != two.config_hash and one.protocol_hash == two.protocol_hash


def test_classification_on_own_images_has_their_classes(folder):
    Path("own").symlink_to(folder / "data/imagenet")
    cell, usual = plan("one.pth", "finetune", images=Path("own")), plan("one.pth", "finetune")
    assert (cell.data, usual.data) == ("own", "ImageNet")
    assert load(cell.config).model.head.num_classes == 3
    assert load(usual.config).model.head.num_classes == 1000
    assert cell.protocol_hash != usual.protocol_hash and cell.data_counts == usual.data_counts


def test_a_cell_that_failed_is_named_and_the_others_run(folder, evaluate, capfd, monkeypatch):
    rows = FrozenCell.rows

    def fail_once(cell: FrozenCell) -> list[dict]:
        if cell.candidate.method == "MAE":
            raise RuntimeError("out of memory")
        return rows(cell)

    monkeypatch.setattr(FrozenCell, "rows", fail_once)
    with pytest.raises(SystemExit) as stop:
        evaluate("--weights", "one.pth", "two.pth", "--method", "MAE", "DINO", "--tasks", "knn")
    assert stop.value.code == 1
    said = capfd.readouterr().err
    assert "error: out of memory\n" in said and "error: 1 of 2 cells failed" in said
    assert {row["method"] for row in read_results("out/results.jsonl")} == {"DINO"}


def test_more_images_of_a_data_set_are_another_training(folder):
    shutil.copytree(folder / "data/ade", "more/ade")
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        split = Path("more/ade/ADEChallengeData2016", kind, "training")
        shutil.copy(next(split.iterdir()), split / f"extra.{ending}")
    few, more = (plan("one.pth", "ade20k", data=root) for root in ("data", "more"))
    assert few.config_hash == more.config_hash and few.work_dir != more.work_dir


def test_more_images_are_another_cell_of_knn_too(folder):
    shutil.copytree(folder / "data/imagenet", "own")
    rows = [plan("one.pth", "knn", images=Path("own")).identity]
    assert is_in(plan("one.pth", "knn", images=Path("own")), rows)
    (split, *_) = Path("own/val").iterdir()
    shutil.copy(next(split.iterdir()), split / "extra.jpg")
    assert not is_in(plan("one.pth", "knn", images=Path("own")), rows)


@pytest.mark.parametrize("task", ["knn", "linear"])
def test_another_folder_of_the_same_name_is_another_cell(folder, task):
    for place in ("a", "b"):
        shutil.copytree(folder / "data/imagenet", Path(place, "photos"))
    paths = sorted(Path("b/photos/val").rglob("*.JPEG"))
    shutil.copy(sorted(Path("b/photos/train").rglob("*.JPEG"))[0], paths[0])
    a, again, b = (plan("one.pth", task, images=Path(p, "photos")) for p in "aab")
    assert a.data == b.data == "photos" and a.data_counts == b.data_counts
    assert is_in(again, [a.identity]) and not is_in(b, [a.identity])
    if task == "linear":
        assert a.work_dir == again.work_dir != b.work_dir


def test_data_of_knn_that_are_not_there_are_named_before_anything_runs(folder, mistake):
    error = mistake("--weights", "one.pth", "--protocol", "paper", "--tasks", "knn", "--data", ".")
    assert error.startswith("error: data folder 'imagenet' does")
    assert error.endswith("does not exist: link or unpack the data there, or pass --data ROOT")


@pytest.mark.parametrize("protocol", ["paper", "short"])
@pytest.mark.parametrize("task", ["knn", "linear"])
def test_own_images_without_splits_are_to_be_sorted(folder, mistake, protocol, task):
    Path("photos/cats").mkdir(parents=True)
    given = ("--weights", "one.pth", "--tasks", task, "--images", "photos")
    error = mistake(*given, "--protocol", protocol)
    assert error.startswith("error: 'photos' has no folder train")
    assert error.endswith("sort your images into DIR/train/CLASS/ and DIR/val/CLASS/")


def test_heads_that_are_given_are_for_the_files_that_do_not_state_theirs(folder):
    export_encoder(read_encoder("one.pth", num_heads=3), "stating.safetensors")
    one, other = read_candidates(["one.pth", "stating.safetensors"], None, num_heads=6)
    assert (one.shape.num_heads, other.shape.num_heads) == (6, 3)
    with pytest.raises(UserError, match=r"says 3 and --num-heads says 6"):
        read_candidates(["stating.safetensors"], None, num_heads=6)


@pytest.mark.parametrize(
    ("launcher", "start"),
    [("torchrun", "dist_train.sh"), ("slurm", "slurm_train.sh gpu_a ade20k_short_")],
)
def test_commands_for_a_cluster_are_printed_and_nothing_runs(
    folder, evaluate, capsys, launcher, start
):
    options = ("--print-commands", launcher, "--partition", "gpu_a")
    evaluate("--weights", "one.pth", "--tasks", "ade20k,knn", *options)
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if not line.startswith("#")]
    assert len(lines) == 1 and start in lines[0]
    words = lines[0].split()
    (config,) = (word for word in words if word.endswith(".py"))
    assert Path(config).is_file() and "--resume" in words and words[words.index(config) + 1] == "1"
    assert not Path("out/results.jsonl").exists()


def test_seeds_are_cells_of_their_own_and_finished_ones_are_left_out(folder, evaluate, capsys):
    arguments = ("--weights", "one.pth", "--tasks", "ade20k", "--seeds", "2")
    evaluate(*arguments, "--print-commands", "torchrun")
    said = [line for line in capsys.readouterr().out.splitlines() if "dist_train" in line]
    assert len(said) == 2 and "_seed1" in said[1]
    append_rows("out/results.jsonl", [plan("one.pth", "ade20k", seed=1).identity])
    evaluate(*arguments, "--print-commands", "torchrun")
    printed = capsys.readouterr()
    assert "1 of 2 cells are finished and kept" in printed.err
    assert printed.out.count("dist_train") == 1 and "_seed0" in printed.out
    evaluate(*arguments, "--print-commands", "slurm-array")
    assert capsys.readouterr().out.startswith("#!/usr/bin/env bash\n#SBATCH")  # sbatch insists


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "gone.pth"], "weights file 'gone.pth' does not exist"),
        (["--weights", "one.pth", "one.pth"], "--weights holds a file twice"),
        (["--weights", "one.pth", "--method", "A", "B"], "--method names 2 systems, --weights 1"),
        (["--weights", "one.pth", "--data", "gone"], "data folder 'gone' does not exist"),
        (["--weights", "one.pth", "--images", "gone"], "image folder 'gone' does not exist"),
        (["--weights", "one.pth", "--layout", "vit"], "layout 'vit' is unknown"),
        (["--weights", "one.pth", "--seeds", "0"], "argument --seeds: 0: give 1 or more"),
        (
            ["--weights", "one.pth", "--batch-per-gpu", "0"],
            "argument --batch-per-gpu: 0: give 1 or more",
        ),
    ],
)
def test_mistakes_are_one_line(folder, mistake, arguments, message):
    assert message in mistake(*arguments, "--tasks", "knn")
    assert not Path("out").exists()


def test_short_runs_are_not_split(folder, mistake):
    error = mistake("--weights", "one.pth", "--tasks", "ade20k", "--gpus", "2")
    assert "--protocol short runs in one process" in error


def test_an_unknown_task_is_named(mistake):
    assert "'voc' is none of knn, " in mistake("--weights", "x", "--tasks", "knn,voc")


def test_data_of_a_task_that_are_not_there_are_named(folder, mistake):
    (folder / "data").unlink()
    (folder / "data").mkdir()
    error = mistake("--weights", "one.pth", "--tasks", "coco")
    assert error.startswith("error: data folder 'data/coco' ")
    assert error.endswith("does not exist: link or unpack the data there, or pass --data ROOT")


PAPER = ("--weights", "one.pth", "--protocol", "paper", "--tasks")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*PAPER, "linear,coco", "--epochs", "9"), "--epochs 9 would leave coco at full length"),
        ((*PAPER, "coco", "--iters", "9", "--epochs", "9"), "--epochs 9 applies to none of coco"),
        ((*PAPER, "linear,finetune", "--lr", "1"), "--lr 1 is for one task"),
        ((*PAPER, "knn", "--lr", "1"), "are for trainings: --tasks has none"),
        (("--weights", "one.pth", "--epochs", "2"), "'short' has its own"),
    ],
)
def test_a_length_or_rate_that_fits_no_training_is_refused(folder, mistake, arguments, message):
    assert message in mistake(*arguments)


def test_fewer_images_than_a_batch_are_refused_before_anything_runs(folder, mistake):
    error = mistake(*PAPER, "finetune")
    assert "finetune: 24 training images make no update of 1024: " in error


def test_another_length_and_rate_are_a_protocol_of_their_own(folder, monkeypatch):
    counts = dict(train=2048, val=5)
    monkeypatch.setattr("milan_mm.evaluation.evaluation_data.data_counts", lambda _: counts)
    (candidate,) = read_candidates(["one.pth"], None, num_heads=3)
    own = OwnSchedule(epochs=10, lr=1e-3)
    cells = [
        Evaluation("paper", Path("data"), Path("out"), schedule=schedule).plan(
            candidate, "finetune", seed=0
        )
        for schedule in (OwnSchedule(), own)
    ]
    whole, changed = cells
    assert (whole.protocol, changed.protocol) == ("paper", "own")
    assert whole.protocol_hash != changed.protocol_hash
    assert whole.work_dir != changed.work_dir
    trained = load(changed.config)  # what the printed commands train
    assert str(changed.config.resolve()) in changed.command("torchrun", "")
    assert trained.train_cfg.max_epochs == 10
    assert trained.optim_wrapper.optimizer.lr == 1e-3
    assert (whole.num_iters, changed.num_iters) == (200, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "knn", "--det-data", "mine"), "--det-data mine is for coco, coco-cascade"),
        (("--tasks", "lvis", "--det-data", "mine"), "'mine' is not for --tasks lvis, whose AP"),
        (("--tasks", "coco", "--seg-data", "mine"), "--seg-data mine is for ade20k, "),
        (
            ("--tasks", "coco", "--images", "mine", "--det-data", "other"),
            "--images mine is left without a task",
        ),
        (("--tasks", "knn", "--seeds", "3"), "--seeds is for trainings"),
        (("--tasks", "knn", "--gpus", "2"), "--gpus is for trainings"),
        (("--tasks", "knn", "--batch-per-gpu", "2"), "--batch-per-gpu is for trainings"),
        (("--tasks", "knn", "--tensorboard"), "--tensorboard is for trainings"),
        (("--tasks", "linear", "--partition", "big"), "is for --print-commands slurm"),
        (("--tasks", "knn,coco", "--img-size", "96"), "give --tasks of one kind"),
        (("--tasks", "ade20k", "--img-size", "96"), "--protocol short exclude each other"),
        (("--tasks", "knn", "--img-size", "100"), "do not divide it, take 96 or 112"),
        (("--tasks", "linear", "--img-size", "100"), "do not divide it, take 96 or 112"),
    ],
)
def test_an_option_that_no_task_would_read_is_refused(folder, mistake, arguments, message):
    assert message in mistake("--weights", "one.pth", *arguments)


def test_the_size_of_the_images_is_that_of_the_option(folder, monkeypatch):
    (candidate,) = read_candidates(["one.pth"], None, num_heads=3)
    evaluation = Evaluation("short", Path("data"), Path("out"), img_size=128)
    assert evaluation.plan(candidate, "knn", 0).preparation.img_size == 128
    cell = evaluation.plan(candidate, "linear", 0)
    assert load(cell.config).model.backbone.img_size == 128
    assert cell.protocol_hash != plan("one.pth", "linear").protocol_hash


FROZEN = "knn,knn-grid,logreg,few-shot,few-shot-knn,low-data"


def test_frozen_tasks_share_one_extraction_and_judge_an_untrained_encoder_too(
    folder, evaluate, monkeypatch
):
    made, pooled = [], extraction.pooled

    def counted(vit, imgs, *rest):
        made.append(len(imgs))
        return pooled(vit, imgs, *rest)

    monkeypatch.setattr(extraction, "pooled", counted)
    words = ("--weights", "one.pth", "--method", "MAE", "--random", "--tasks", FROZEN)
    evaluate(*words, "--draws", "1")
    rows = read_results("out/results.jsonl")
    assert sum(made) == 2 * (24 + 3)  # two encoders, each image once
    assert {row["method"] for row in rows} == {"MAE", "untrained"}
    assert len({row["weights_sha256"] for row in rows}) == 2
    for name in FROZEN.split(","):
        found = [row["metric"] for row in rows if (row["task"], row["method"]) == (name, "MAE")]
        assert found == [metric.name for metric in TASKS[name].metrics]
    of = {(row["task"], row["metric"]): row for row in rows if row["method"] == "MAE"}
    assert of["knn", "top-1"]["value"] == of["knn-grid", "k=20"]["value"]
    assert of["knn-grid", "k=200"]["value"] is None  # of 24 images
    assert of["logreg", "top-1"]["chosen"]["C"] > 0
    low, high = of["few-shot", "1-shot"]["interval"]
    assert low <= of["few-shot", "1-shot"]["value"] <= high
    evaluate(*words, "--draws", "1")
    assert read_results("out/results.jsonl") == rows


def test_the_published_vote_has_the_hash_that_it_always_had(folder):
    cell = plan("one.pth", "knn")
    settings = dict(k=20, temperature=0.07, crop_pct=0.875, feature="cls_token", img_size=64)
    assert cell.protocol_hash == settings_hash(settings | dict(protocol="short"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "linear-grid", "--pooling", "avg"), "--pooling is for few-shot, few-shot-knn"),
        (("--tasks", "knn", "--pooling", "pool"), "one.pth has no attention pooling of its own"),
        (("--tasks", "knn", "--shots", "1"), "--shots is for few-shot, few-shot-knn, not for"),
        (("--tasks", "few-shot", "--shots", "3"), "'3' is none of 1, 2, 5, 10"),
        (("--tasks", "ade20k-knn", "--crop-pct", "1"), "--crop-pct is for attentive, few-shot"),
        (("--tasks", "knn", "--subsets", "x"), "--subsets is for low-data, not for --tasks knn"),
        (("--tasks", "low-data", "--subsets", "x"), "list of images 'x' does not exist"),
    ],
)
def test_options_of_frozen_tasks_are_checked(folder, mistake, words, message):
    assert message in mistake("--weights", "one.pth", *words)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("knn-grid", "k = 200 exceeds the 24 training images in data/imagenet/train"),
        ("few-shot", "10 images of each class are drawn, and class '"),
    ],
)
def test_a_protocol_that_the_images_cannot_serve_is_refused_before_anything_runs(
    folder, mistake, task, message
):
    words = ("--weights", "one.pth", "--protocol", "paper", "--tasks", f"logreg,{task}")
    assert message in mistake(*words)
    assert not Path("out/results.jsonl").exists() and not Path("out/features").exists()
