"""Top-k accuracy asks for no more guesses than there are classes, on any way to these."""

from pathlib import Path

import pytest
import torch
from mmpretrain.evaluation import Accuracy

from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions
from tests.recipes.test_configs import load
from tests.run.own_data.folders import image_folder

NAME = "cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k"


@pytest.mark.parametrize("way", ["--data", "--cfg-options"])
@pytest.mark.parametrize(("num_classes", "topk"), [(3, (1,)), (5, (1, 5)), (6, (1, 5))])
def test_the_metric_asks_for_no_more_guesses_than_classes(
    tmp_path: Path, way: str, num_classes: int, topk: tuple[int, ...]
):
    cfg, options = load(NAME), RunOptions(cfg_options=[f"model.head.num_classes={num_classes}"])
    if way == "--data":
        classes = tuple("abcdefgh"[:num_classes])
        options = RunOptions(data=str(image_folder(tmp_path, classes, per_class=1)))
    notes = prepare(cfg, options, RECIPE)
    assert any("top-5 accuracy is left out" in note for note in notes) == (num_classes < 5)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.topk == topk
    scores = torch.eye(num_classes)
    found = Accuracy.calculate(scores, torch.arange(num_classes), cfg.val_evaluator.topk)
    assert len(found) == len(topk)


def test_other_tasks_keep_their_metrics():
    for name in (
        "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
        "milan_vit-mini-p8_1xb64-amp-coslr-12e_shapes",
    ):
        cfg = load(name)
        before = cfg.get("val_evaluator")
        assert not any("left out" in note for note in prepare(cfg, RunOptions(), RECIPE))
        assert cfg.get("val_evaluator") == before
