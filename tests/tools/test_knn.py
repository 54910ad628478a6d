"""tools/knn.py as a user meets it: numbers next to a random encoder's, and one-line errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milan_mm.evaluation.results import read_rows
from tests.helpers import save_state, tiny_vit
from tests.weights import zoo

COLOURS = dict(blue=(40, 60, 220), green=(30, 180, 60), red=(220, 40, 50))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a tiny encoder, and noisy images of three colours."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for name, colour in COLOURS.items():
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(colour, 40, (40, 50, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{i}.png")
    save_state(tiny_vit().state_dict(), tmp_path, "encoder.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments_of(options: dict) -> list[str]:
    """A command line on the encoder and the images of `folder`, without worker processes."""
    options = dict(weights="encoder.pth", data="images", num_heads=4, k=3, workers=0) | options
    words = []
    for name, value in options.items():
        if value is not False and value is not None:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else str(value).split()
    return words


@pytest.fixture
def knn(call: Callable[..., None]) -> Callable[..., None]:
    return lambda **options: call("knn", *arguments_of(options))


@pytest.fixture
def mistake(error_of: Callable[..., str]) -> Callable[..., str]:
    return lambda **options: error_of("knn", *arguments_of(options))


def test_accuracies_are_printed_beside_a_random_encoder_and_appended(folder, knn, capsys):
    knn(random=True, out="results.jsonl")
    knn(feature="cls_token avg", img_size=64, crop_pct=1.0, stats="half", out="results.jsonl")
    rows = read_rows("results.jsonl")
    assert [(row["init"], row["metric"], row["feature"]) for row in rows] == [
        ("weights", "top-1", "cls_token"),
        ("weights", "top-5", "cls_token"),
        ("random", "top-1", "cls_token"),
        ("random", "top-5", "cls_token"),
        ("weights", "top-1", "cls_token"),
        ("weights", "top-5", "cls_token"),
        ("weights", "top-1", "avg"),
        ("weights", "top-5", "avg"),
    ]
    assert rows[0]["value"] == 100.0  # three colours are told apart even by random projections
    assert {row["value"] for row in rows if row["metric"] == "top-5"} == {None}  # of 3 classes
    assert (rows[0]["num_train"], rows[0]["num_val"], rows[0]["k"]) == (18, 9, 3)
    assert len(rows[0]["sha256"]) == 64 and rows[2]["sha256"] is None
    assert (rows[0]["img_size"], rows[4]["img_size"]) == (32, 64)
    assert "weights   cls_token      100.00  undefined" in capsys.readouterr().out


def test_several_k_have_a_row_each_and_features_are_found_again(folder, knn, capsys, monkeypatch):
    knn(k="1 3 9", random=True, features="kept", out="results.jsonl")
    assert len(list(Path("kept").glob("*/manifest.json"))) == 4  # two encoders, two splits
    monkeypatch.setattr("milan_mm.evaluation.frozen.extraction.pooled", None)  # would fail
    knn(k="3", random=True, features="kept", out="results.jsonl")
    knn(k="3", random=True, out="results.jsonl")
    rows = [row for row in read_rows("results.jsonl") if row["metric"] == "top-1"]
    assert [(row["init"], row["k"]) for row in rows[:6]] == [
        *(("weights", k) for k in (1, 3, 9)),
        *(("random", k) for k in (1, 3, 9)),
    ]
    kept = [(row["value"], row["interval"]) for row in (rows[1], rows[4])]
    assert kept == [(row["value"], row["interval"]) for row in rows[6:8]]
    assert kept == [(row["value"], row["interval"]) for row in rows[8:]]
    assert "weights   cls_token     9" in capsys.readouterr().out


def test_fewer_than_five_neighbours_make_no_more_guesses(folder, knn):
    rng = np.random.default_rng(0)
    for name in (f"noise/{part}/{label}" for part in ("train", "val") for label in range(6)):
        Path(name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(f"{name}/{i}.png")
    knn(data="noise", k="1 2 12", out="results.jsonl")
    rows = {(row["k"], row["metric"]): row["value"] for row in read_rows("results.jsonl")}
    assert rows[1, "top-5"] == rows[1, "top-1"] < 100
    assert rows[2, "top-5"] <= rows[12, "top-5"]


def test_photos_in_both_splits_are_said(folder, knn, capsys):
    knn()
    assert "training images too" not in capsys.readouterr().err
    shutil.copy("images/train/red/0.png", "images/val/red/0.png")
    knn()
    assert "1 of 9 validation images are training images too" in capsys.readouterr().err


def test_wrong_labels_give_a_low_accuracy(folder, knn):
    images = folder / "images/val"
    (images / "red").rename(images / "swap")
    (images / "blue").rename(images / "red")
    (images / "swap").rename(images / "blue")
    knn(out="results.jsonl")
    assert read_rows("results.jsonl")[0]["value"] == pytest.approx(100 / 3)


def test_validation_may_lack_a_class(folder, knn):
    for file in (folder / "images/val/blue").iterdir():
        file.unlink()
    (folder / "images/val/blue").rmdir()
    knn(out="results.jsonl")
    assert read_rows("results.jsonl")[0]["value"] == 100.0


def test_a_class_without_training_images_is_named(folder, mistake):
    (folder / "images/val/red").rename(folder / "images/val/yellow")
    assert "1 classes of images/val are not in images/train, e.g. 'yellow'" in mistake()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(weights="gone.pth"), "weights file 'gone.pth' does not exist"),
        (
            dict(data="gone"),
            "data folder 'gone' does not exist: give --data a folder with",
        ),
        (dict(num_heads=None), "3 blocks of width 48, and the tensors do not show"),
        (dict(k=19), "--k 19 exceeds the 18 images in images/train"),
        (dict(k=0), "argument --k: 0: give 1 or more"),
        (dict(temperature=0), "argument --temperature: 0: give a number above 0"),
        (dict(img_size=30), "--img-size 30 is not a multiple of the patch size 8: use 32"),
        (dict(crop_pct=1.5), "argument --crop-pct: 1.5 is outside (0, 1]"),
    ],
)
def test_a_mistake_is_answered_in_one_line(folder, mistake, options, message):
    assert message in mistake(**options, out="results.jsonl")
    assert not Path("results.jsonl").exists()


def test_an_encoder_without_class_token_needs_the_mean(folder, mistake, knn):
    save_state(tiny_vit(with_cls_token=False).state_dict(), folder, "dense.pth")
    assert "dense.pth has no class token: pass --feature avg" in mistake(weights="dense.pth")
    knn(weights="dense.pth", feature="avg")
    assert "dense.pth has no attention pooling of its own: pass --feature avg" in mistake(
        weights="dense.pth", feature="pool"
    )


def test_an_encoder_with_an_attention_pooling_votes_by_it(folder, mistake, knn):
    save_state(zoo.siglip().content, folder, "siglip.pth")
    assert "siglip.pth has no class token: pass --feature pool or avg" in mistake(
        weights="siglip.pth"
    )
    knn(weights="siglip.pth", feature="pool", random=True, features="kept", out="results.jsonl")
    assert {row["feature"] for row in read_rows("results.jsonl")} == {"pool"}


def test_an_unreadable_image_ends_the_tool_with_its_name(folder, mistake):
    (folder / "images/val/red/0.png").write_bytes(b"no image")
    assert "images/val/red/0.png' cannot be read" in mistake()


def test_a_shipped_encoder_votes_by_its_name(folder, call):
    words = ["--data", "images", "--k", "3", "--workers", "0", "--out", "results.jsonl"]
    call("knn", "--weights", "clip-shapes", *words)
    row = read_rows("results.jsonl")[0]
    assert row["weights"] == "clip-shapes" and len(row["sha256"]) == 64
