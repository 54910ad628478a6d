"""What the grids ask of an encoder and of the training images."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.grids import Attentive, LinearGrid
from milan_mm.evaluation.frozen.linear_grid import GridSettings
from milan_mm.evaluation.frozen.protocol import TrainImages
from milan_mm.evaluation.frozen.table import PROTOCOLS
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.vit_options import ARCHS

SHAPE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)


def test_the_last_four_blocks_are_read_and_the_class_token_if_there_is_one():
    needs = LinearGrid().needs(SHAPE)
    assert needs.blocks == (8, 9, 10, 11) and needs.poolings == ("cls_token", "avg")
    assert LinearGrid().needs(replace(SHAPE, with_cls_token=False)).poolings == ("avg",)
    assert LinearGrid().needs(replace(SHAPE, with_pool=True)).poolings[-1] == "pool"
    assert LinearGrid().needs(replace(SHAPE, num_layers=2)).blocks == (0, 1)
    assert Attentive().needs(SHAPE).blocks == ()


WITHOUT = replace(SHAPE, embed_dims=6, num_layers=2, with_cls_token=False)


def informative(pooling: str) -> Callable[[str, str], FeatureSet]:
    """Features of two classes, which only one pooling of the last block shows."""

    def features(split: str, asked: str) -> FeatureSet:
        labels = torch.arange(40) % 2
        values = torch.randn(40, 2, 6, generator=torch.Generator().manual_seed(len(split)))
        if asked == pooling:
            values[:, 1, 0] += 6 * labels - 3
        return FeatureSet(values, labels, ("cat", "dog"), (), (0, 1), asked)

    return features


@pytest.mark.parametrize("protocol", [LinearGrid(), Attentive()])
def test_a_class_that_cannot_be_split_is_named(protocol):
    classes, names = ("cat", "dog"), tuple("12345")
    protocol.check(TrainImages("train", torch.tensor([0, 0, 1, 1, 1]), classes, names))
    with pytest.raises(UserError, match="class 'dog' of train has 1 image"):
        protocol.check(TrainImages("train", torch.tensor([0, 0, 0, 0, 1]), classes, names))


def test_an_encoder_without_class_token_is_judged_by_the_mean_of_its_patches():
    settings, steps = GridSettings(rates=(0.1, 1.0), batch=16, epochs=20), []
    found = LinearGrid(settings).measure(informative("avg"), WITHOUT, lambda: steps.append(1))
    assert found["top-1"].value > 85 and found["top-5"].value is None
    assert found["top-1"].chosen["pooling"] == "avg"
    assert len(steps) == LinearGrid(settings).num_steps
    assert LinearGrid(settings).settings == LinearGrid(settings, seed=3).settings


@pytest.mark.parametrize("task", ["knn", "logreg", "linear-grid"])
def test_an_encoder_is_judged_by_its_own_pooling_where_that_stands_for_the_class_token(task):
    settings = dict(grid=GridSettings(rates=(0.1, 1.0), batch=16, epochs=20))
    protocol = replace(PROTOCOLS[task], **settings if task == "linear-grid" else {})
    shape = replace(WITHOUT, with_pool=True)
    found = protocol.measure(informative("pool"), shape, lambda: None)
    assert found["top-1"].value > 85
    assert found["top-1"].chosen.get("pooling", "pool") == "pool"
    features = [protocol.feature(each) for each in (SHAPE, WITHOUT, shape)]
    assert len({*features}) == 3  # which the hash of the protocol has
    if task != "linear-grid":
        mean = replace(protocol, pooling="avg")
        assert mean.needs(shape).poolings == ("avg",)
        assert mean.measure(informative("pool"), shape, lambda: None)["top-1"].value < 85
