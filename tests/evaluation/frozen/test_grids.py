"""What the grids ask of an encoder and of the training images."""

from dataclasses import replace

import pytest
import torch

from milan_mm.errors import UserError
from milan_mm.evaluation.frozen.feature_set import FeatureSet
from milan_mm.evaluation.frozen.grids import Attentive, LinearGrid
from milan_mm.evaluation.frozen.linear_grid import GridSettings
from milan_mm.evaluation.frozen.protocol import TrainImages
from milan_mm.evaluation.recipes import Shape
from milan_mm.models.vit_options import ARCHS

SHAPE = Shape(**ARCHS["base"], patch_size=16, img_size=224, with_cls_token=True)


def test_the_last_four_blocks_are_read_and_the_class_token_if_there_is_one():
    needs = LinearGrid().needs(SHAPE)
    assert needs.blocks == (8, 9, 10, 11) and needs.poolings == ("cls_token", "avg")
    assert LinearGrid().needs(replace(SHAPE, with_cls_token=False)).poolings == ("avg",)
    assert LinearGrid().needs(replace(SHAPE, num_layers=2)).blocks == (0, 1)
    assert Attentive().needs(SHAPE).blocks == ()


@pytest.mark.parametrize("protocol", [LinearGrid(), Attentive()])
def test_a_class_that_cannot_be_split_is_named(protocol):
    classes, names = ("cat", "dog"), tuple("12345")
    protocol.check(TrainImages("train", torch.tensor([0, 0, 1, 1, 1]), classes, names))
    with pytest.raises(UserError, match="class 'dog' of train has 1 image"):
        protocol.check(TrainImages("train", torch.tensor([0, 0, 0, 0, 1]), classes, names))


def test_an_encoder_without_class_token_is_judged_by_the_mean_of_its_patches():
    shape = replace(SHAPE, embed_dims=6, num_layers=2, with_cls_token=False)
    settings = GridSettings(rates=(0.1, 1.0), batch=16, epochs=20)

    def features(split: str, pooling: str) -> FeatureSet:
        assert pooling == "avg"
        labels = torch.arange(40) % 2
        values = torch.randn(40, 2, 6, generator=torch.Generator().manual_seed(len(split)))
        values[:, 1, 0] += 4 * labels
        return FeatureSet(values, labels, ("cat", "dog"), (), (0, 1), pooling)

    steps = []
    found = LinearGrid(settings).measure(features, shape, lambda: steps.append(1))
    assert found["top-1"].value > 85 and found["top-5"].value is None
    assert found["top-1"].chosen["pooling"] == "avg"
    assert len(steps) == LinearGrid(settings).num_steps
    assert LinearGrid(settings).settings == LinearGrid(settings, seed=3).settings
