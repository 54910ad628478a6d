"""What a pretraining hides and finds hard: the numbers are those of its own training step."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from milan_mm.errors import UserError
from milan_mm.look.images import Photo
from milan_mm.look.masks import masks_figure, read_pretraining
from milan_mm.registry import MODELS
from milan_mm.visualization.pretraining import normalise, pretraining_views
from tests.helpers import milan_config
from tests.look.conftest import WORDING

KINDS = dict(
    milan={},
    mae=dict(mask_generator="UniformMaskGenerator", decoder="MAEDecoder", head="PixelTargetHead"),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)


def build(kind: str):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(copy.deepcopy(milan_config(**KINDS[kind]))).eval()


def checkpoint(kind: str, folder: Path) -> str:
    """A file as a training leaves it, without its record, as earlier versions did."""
    config = Config(dict(model=milan_config(**KINDS[kind]), default_scope="mmpretrain"))
    content = dict(meta=dict(cfg=config.pretty_text), state_dict=build(kind).state_dict())
    torch.save(content, folder / "epoch_1.pth")
    return str(folder / "epoch_1.pth")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_training_step(kind: str):
    model = build(kind)
    views = pretraining_views(model, IMAGES, [7])
    torch.manual_seed(7)
    with torch.no_grad():
        step = float(model.loss(normalise(model, IMAGES))["loss"])
    if kind == "mae":
        assert np.isnan(views.loss[views.kept[0]]).all()
        assert np.nanmean(views.loss) == pytest.approx(step, rel=1e-5)
    else:  # its loss has the class token too
        assert np.isfinite(views.loss).all()
        class_token = (step * 145 * 2 - views.loss.sum()) / 2
        assert 0 <= class_token <= 4


def test_each_seed_keeps_a_quarter_and_probabilities_sum_to_one():
    views = pretraining_views(build("milan"), IMAGES, [0, 1, 0])
    assert views.kept.shape == (3, 2, 12, 12)
    assert (views.kept.sum(axis=(2, 3)) == 36).all()
    assert (views.kept[0] == views.kept[2]).all() and (views.kept[0] != views.kept[1]).any()
    np.testing.assert_allclose(views.probability.sum(axis=(1, 2)), 1, rtol=1e-5)
    assert pretraining_views(build("mae"), IMAGES).probability is None


def test_likelier_patches_are_kept_more_often():
    views = pretraining_views(build("milan"), IMAGES, range(60))
    often = views.kept.mean(axis=0)
    ranked = views.probability.reshape(2, -1).argsort(axis=1)
    shares = np.take_along_axis(often.reshape(2, -1), ranked, axis=1)
    assert (shares[:, -36:].mean(axis=1) > shares[:, :36].mean(axis=1)).all()


def test_kept_patches_of_a_reconstruction_are_the_image():
    views = pretraining_views(build("mae"), IMAGES)
    kept = views.kept[0].repeat(8, axis=1).repeat(8, axis=2)
    assert (views.reconstruction[kept] == IMAGES[kept]).all()
    assert (views.reconstruction[~kept] != IMAGES[~kept]).any()
    assert pretraining_views(build("milan"), IMAGES).reconstruction is None


def test_drawing_leaves_the_generator_as_it_was():
    model = build("milan")
    torch.manual_seed(5)
    expected = (torch.initial_seed(), torch.rand(3))
    torch.manual_seed(5)
    pretraining_views(model, IMAGES, [0, 1])
    assert torch.initial_seed() == expected[0] and (torch.rand(3) == expected[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_drawn_from_the_checkpoint_alone(kind: str, tmp_path: Path):
    restored = read_pretraining(checkpoint(kind, tmp_path))
    photo = Photo(Path("photo.png"), IMAGES[0])
    facts = masks_figure(restored, [photo], draws=3, seed=4, wording=WORDING).facts
    assert facts["seeds"] == [4, 5, 6] and facts["mask_ratio"] == 0.75
    for part in ("36 of 144 patches", "mask ratio 0.75", facts["weights"][0]["sha256"][:8]):
        assert part in facts["caption"]
    assert ("shapes-clip" in facts["caption"]) == (kind == "milan")


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path):
    config = dict(
        model=dict(
            type="ImageClassifier",
            backbone=dict(milan_config()["backbone"], out_type="cls_token"),
            head=dict(type="LinearClsHead", num_classes=3, in_channels=48),
        ),
        default_scope="mmpretrain",
    )
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(copy.deepcopy(config["model"]))
    meta = dict(cfg=Config(config).pretty_text, dataset_meta=dict(classes=("a", "b", "c")))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / "cls.pth")
    with pytest.raises(UserError, match="is a checkpoint of a classifier: masks are those of"):
        read_pretraining(str(tmp_path / "cls.pth"))
