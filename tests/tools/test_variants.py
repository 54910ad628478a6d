"""A classifier of ImageNet-1K is tested on variants of ImageNet, by the tools that users call."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

from milan_mm.configs import load
from milan_mm.datasets.variants import class_ids
from milan_mm.evaluation import trained_cells
from milan_mm.evaluation.candidates import read_candidates
from milan_mm.evaluation.planning import Evaluation
from milan_mm.evaluation.row_schema import check_row
from milan_mm.run.metrics import read_metrics, write_metrics
from tests.helpers import save_state, tiny_vit
from tests.small_data import imagenet_of

CONFIG = """
_base_ = "{base}"
model = dict(head=dict(num_classes={classes}))
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
test_evaluator = val_evaluator = dict(type="mmpretrain.Accuracy", topk=(1, 5))
"""


@pytest.fixture(scope="module")
def imagenet_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ROOT/imagenet-a with an image for each of 200 classes."""
    root = tmp_path_factory.mktemp("sets")
    noise = np.random.default_rng(0).integers(0, 255, (200, 40, 40, 3), np.uint8)
    for name, pixels in zip(class_ids()[::5], noise, strict=True):
        (root / "imagenet-a" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(root / "imagenet-a" / name / "a.jpg")
    return root


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[[int], list[Path]]:
    """A recipe of that many classes, and a checkpoint that always says 'class 5'."""

    def write(classes: int) -> list[Path]:
        base = load("cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes").filename
        config = tmp_path / "config.py"
        config.write_text(CONFIG.format(base=base, classes=classes))
        model = MODELS.build(load(str(config)).model)
        state = model.state_dict()
        state["head.fc.weight"].zero_()
        state["head.fc.bias"].zero_()[5] = 1
        torch.save(dict(state_dict=state, meta={}), tmp_path / "best.pth")
        return [config, tmp_path / "best.pth"]

    return write


def test_a_checkpoint_is_tested_among_the_classes_of_the_variant(
    classifier, imagenet_a: Path, tmp_path: Path, call: Callable[..., None]
):
    out, folder = tmp_path / "metrics.json", imagenet_a / "imagenet-a"
    work = ["--work-dir", tmp_path / "work", "--out", out]
    call("test", *classifier(1000), "--test-set", "imagenet-a", "--data", folder, *work)
    metrics = read_metrics(out)
    assert metrics["variant/top1"] == 0.5  # one image of 200: label 5 is the variant's second class
    assert metrics["variant/top5"] >= 0.5


def test_other_classes_and_a_missing_folder_are_one_line(
    classifier, imagenet_a: Path, error_of: Callable[..., str]
):
    options = ["--test-set", "imagenet-a"]
    files = classifier(10)
    message = error_of("test", *files, *options, "--data", imagenet_a / "imagenet-a")
    assert "has 10 classes" in message
    assert "--data DIR" in error_of("test", *files, *options)


def test_evaluate_gives_a_row_for_each_variant(
    imagenet_a: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from milan_mm.shapes.files import write_shapes

    write_shapes(tmp_path / "shapes", 24, 4, 3, size=64, progress=False)
    imagenet_of(tmp_path / "shapes", imagenet_a)
    arch = dict(embed_dims=24, num_layers=4, num_heads=3)
    save_state(tiny_vit(arch=arch, img_size=64, patch_size=16).state_dict(), tmp_path, "one.pth")
    (candidate,) = read_candidates([str(tmp_path / "one.pth")], None, num_heads=3)
    evaluation = Evaluation("short", imagenet_a, tmp_path / "out")
    trained = evaluation.plan(candidate, "finetune", 0)
    cell = evaluation.plan_variant(trained, "imagenet-a")
    assert cell.job is None
    with pytest.raises(RuntimeError, match="its training is not finished"):
        cell.rows()
    asked = []

    def run_tool(_: str, tool: str, arguments: list[str], log: Path) -> None:
        asked.extend([tool, *arguments[-4:]])
        out = Path(arguments[arguments.index("--out") + 1])
        out.parent.mkdir(parents=True)
        write_metrics(out, {"variant/top1": 12.0, "variant/top5": 30.0})

    monkeypatch.setattr(trained_cells, "run_tool", run_tool)
    monkeypatch.setattr(trained_cells.VariantCell, "is_trained", True)
    monkeypatch.setattr(trained_cells.VariantCell, "_precision", lambda _: "float32")
    rows = [row | dict(seconds=1.0) for row in cell.rows()]
    for row in rows:
        check_row(row, "row")
    assert [(row["metric"], row["value"], row["data"]) for row in rows] == [
        ("top-1", 12.0, "ImageNet-A"),
        ("top-5", 30.0, "ImageNet-A"),
    ]
    assert all(row["interval"][0] <= row["value"] <= row["interval"][1] for row in rows)
    folder = str(imagenet_a / "imagenet-a")
    assert asked == ["test.py", "--test-set", "imagenet-a", "--data", folder]
    assert cell.identity != trained.identity and cell.data_counts["val"] == 200
