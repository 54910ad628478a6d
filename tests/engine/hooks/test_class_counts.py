"""Losses that ask for the number of images of each class get it before a training."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import RepeatDataset
from torch import nn

from milan_mm.datasets.coco.dataset import CocoDataset
from milan_mm.engine.hooks.class_counts import ClassCountsHook
from milan_mm.errors import UserError
from milan_mm.models.federated import FederatedLoss
from tests.evaluation.test_lvis_metric import CATEGORIES, NAMES, annotation_file


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(annotation_file()))
    return CocoDataset(ann_file=str(path), metainfo=dict(classes=NAMES), pipeline=[])


def runner(model: nn.Module, dataset: object) -> SimpleNamespace:
    return SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset))


def test_images_are_counted_once_per_class_in_any_wrapper(dataset):
    loss = FederatedLoss(len(NAMES))
    ClassCountsHook().before_train(runner(nn.Sequential(loss), RepeatDataset(dataset, 3)))
    pairs = {(a["image_id"], a["category_id"]) for a in annotation_file()["annotations"]}
    counts = Counter(category_id for _, category_id in pairs)
    assert loss.image_counts.tolist() == [counts[number] for number in CATEGORIES]


def test_another_data_set_is_refused_only_where_a_loss_asks():
    hook, strange = ClassCountsHook(), torch.utils.data.TensorDataset(torch.zeros(3))
    hook.before_train(runner(nn.Linear(1, 1), strange))
    with pytest.raises(UserError, match="TensorDataset does not know which images have which"):
        hook.before_train(runner(FederatedLoss(4), strange))
