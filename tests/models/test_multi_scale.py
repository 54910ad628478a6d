"""The multi-scale test is the published protocol, and its merged result an explicit loop's."""

import weakref
from copy import deepcopy
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import SegTTAModel
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.models.multi_scale import MultiScaleSegmentor
from milan_mm.registry import MODELS
from milan_mm.run.config_nodes import views_of_test
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions
from tests.helpers import STATS, TINY_ARCH, randomise

MULTI_SCALE = [
    f"seg/upernet_vit-{arch}-p16_8xb2-amp-160k_ade20k-512x512-ms" for arch in ("base", "large")
]
SHORT_SIDES = (512, 512, 512, 640, 768, 896)  # 512 times 0.5 to 1.75, lifted to the crop
CROP, STRIDE = 64, 42
_config = cache(load)  # nothing here changes what it returns


@cache
def _pipeline(recipe: str, divisor: int = 1) -> Compose:
    """The test pipeline of a recipe, perhaps with all sizes divided by a number."""
    pipeline = deepcopy(_config(recipe).tta_pipeline)
    for transform in pipeline[1].transforms[0]:
        transform.scale //= divisor
    with DefaultScope.overwrite_default_scope("mmseg"):
        return Compose(pipeline)


def _sample(folder: Path, height: int, width: int) -> dict:
    generator = np.random.default_rng(height)
    image = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "image.png")
    Image.fromarray(np.ones((height, width), np.uint8)).save(folder / "label.png")
    paths = dict(img_path=str(folder / "image.png"), seg_map_path=str(folder / "label.png"))
    return paths | dict(reduce_zero_label=True, label_map=None, seg_fields=[])


@pytest.fixture
def segmentor() -> nn.Module:
    """A linear head on a tiny ViT, tested in tiles of 64 pixels."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(
            ConfigDict(
                type="mmseg.EncoderDecoder",
                data_preprocessor=dict(
                    type="mmseg.SegDataPreProcessor",
                    bgr_to_rgb=True,
                    size=(CROP, CROP),
                    test_cfg=dict(size=(CROP, CROP)),
                    **STATS,
                ),
                backbone=dict(type="milan_mm.PlainViT", arch=TINY_ARCH, img_size=32, patch_size=8),
                decode_head=dict(
                    type="mmseg.FCNHead",
                    in_channels=48,
                    channels=48,
                    num_convs=0,
                    concat_input=False,
                    num_classes=7,
                ),
                test_cfg=dict(mode="slide", crop_size=(CROP, CROP), stride=(STRIDE, STRIDE)),
            )
        )
    nn.init.normal_(model.decode_head.conv_seg.weight)  # else all classes are nearly equal
    return randomise(model).eval()


@pytest.mark.parametrize("size", [(683, 512), (300, 400), (61, 307)])
def test_each_view_has_the_published_size(tmp_path: Path, size: tuple[int, int]):
    views = _pipeline(MULTI_SCALE[0])(_sample(tmp_path, *size))["data_samples"]
    expected = []
    for short in SHORT_SIDES:
        scale = short / min(size)
        view = tuple(int(side * scale + 0.5) for side in size)
        assert min(view) == short
        expected += [(view, False), (view, True)]
    assert [(view.img_shape, view.flip) for view in views] == expected


def test_the_ground_truth_is_neither_resized_nor_flipped(tmp_path: Path):
    sample = _sample(tmp_path, 60, 80)
    labels = np.random.default_rng(0).integers(1, 151, (60, 80), dtype=np.uint8)
    Image.fromarray(labels).save(sample["seg_map_path"])
    views = _pipeline(MULTI_SCALE[0], divisor=8)(sample)["data_samples"]
    assert all((view.gt_sem_seg.data[0].numpy() == labels - 1).all() for view in views)


def _tiled_scores(model: nn.Module, image: Tensor) -> Tensor:
    """Scores (C, H, W) of a normalised image (3, H, W) as the mean over overlapping tiles."""
    height, width = image.shape[1:]
    total = torch.zeros(7, height, width)
    count = torch.zeros(height, width)
    tops = sorted({min(top, height - CROP) for top in range(0, height, STRIDE)})
    lefts = sorted({min(left, width - CROP) for left in range(0, width, STRIDE)})
    for top in tops:
        for left in lefts:
            tile = image[:, top : top + CROP, left : left + CROP]
            scores = model.decode_head.forward(model.backbone(tile[None]))
            scores = F.interpolate(scores, (CROP, CROP), mode="bilinear", align_corners=False)
            total[:, top : top + CROP, left : left + CROP] += scores[0]
            count[top : top + CROP, left : left + CROP] += 1
    return total / count


def _explicit_loop(model: nn.Module, sample: dict) -> Tensor:
    """Mean probabilities (C, H, W) over scales and flips, without mmseg."""
    image = cv2.imread(sample["img_path"])[:, :, ::-1]
    height, width = image.shape[:2]
    views = []
    for short in (side // 8 for side in SHORT_SIDES):
        size = tuple(int(side * short / min(height, width) + 0.5) for side in (width, height))
        resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        for flipped in (False, True):
            view = resized[:, ::-1] if flipped else resized
            view = (view.astype(np.float32) - STATS["mean"]) / STATS["std"]
            scores = _tiled_scores(model, torch.from_numpy(view).float().permute(2, 0, 1))
            if flipped:
                scores = scores.flip(-1)
            scores = F.interpolate(scores[None], (height, width), mode="bilinear")
            views.append(scores[0].softmax(dim=0))
    return torch.stack(views).mean(dim=0)


@pytest.mark.parametrize("size", [(75, 100), (130, 90)])
def test_the_merged_prediction_is_that_of_an_explicit_loop(segmentor, tmp_path: Path, size):
    sample = _sample(tmp_path, *size)
    batch = pseudo_collate([_pipeline(MULTI_SCALE[0], divisor=8)(sample.copy())])
    (merged,) = MultiScaleSegmentor(segmentor).test_step(batch)
    with torch.no_grad():
        probabilities = _explicit_loop(segmentor, sample)
    best, second = probabilities.topk(2, dim=0).values
    clear = best - second > 1e-5
    assert clear.float().mean() > 0.99
    assert len(merged.pred_sem_seg.data.unique()) > 2
    assert (merged.pred_sem_seg.data[0] == probabilities.argmax(dim=0))[clear].all()


def test_the_merged_prediction_is_that_of_mmseg(segmentor, tmp_path: Path):
    pipeline = _pipeline(MULTI_SCALE[0], divisor=8)
    ours, theirs = (
        wrapper(segmentor).test_step(pseudo_collate([pipeline(_sample(tmp_path, 75, 100))]))[0]
        for wrapper in (MultiScaleSegmentor, SegTTAModel)
    )
    assert torch.equal(ours.pred_sem_seg.data, theirs.pred_sem_seg.data)
    assert torch.equal(ours.gt_sem_seg.data, theirs.gt_sem_seg.data)
    assert ours.img_path == theirs.img_path


class _CountsScores(nn.Module):
    """Predicts random scores, and notes how many earlier ones are still in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[int] = []
        self.scores: list[weakref.ref] = []

    def test_step(self, data: dict) -> list[SegDataSample]:
        self.alive.append(sum(scores() is not None for scores in self.scores))
        scores = torch.rand(3, 4, 5)
        self.scores.append(weakref.ref(scores))
        sample = SegDataSample(metainfo=dict(img_path="image.png"))
        return [sample.set_data(dict(seg_logits=PixelData(data=scores))) or sample]


def test_scores_of_a_view_are_freed_before_the_next_one():
    module = _CountsScores()
    MultiScaleSegmentor(module).test_step(dict(inputs=[[]] * 12, data_samples=[[]] * 12))
    assert module.alive == [0] * 12


@pytest.mark.parametrize("recipe", MULTI_SCALE)
def test_training_with_a_multi_scale_recipe_is_that_of_the_single_scale_one(recipe: str):
    single, multi = (_config(name).to_dict() for name in (recipe.removesuffix("-ms"), recipe))
    changed = {key for key in multi if multi[key] != single.get(key)}
    assert changed == {"tta_pipeline", "tta_model", "multi_scale_pipeline", "short_side"}
    assert single.keys() <= multi.keys()


def test_a_test_pipeline_of_ones_own_is_used_or_refused():
    field = "test_dataloader.dataset.pipeline.1.scale=(2048,640)"
    with pytest.raises(UserError, match=r"scale has no effect: .* or tta_model=None for a single"):
        prepare(load(MULTI_SCALE[0]), RunOptions(cfg_options=[field]), RECIPE)
    single = load(MULTI_SCALE[0])
    prepare(single, RunOptions(cfg_options=[field, "tta_model=None"]), RECIPE)
    assert views_of_test(single) is None
    own = load(MULTI_SCALE[0])  # as a config of an earlier version has it
    own.test_dataloader.dataset.pipeline = deepcopy(own.tta_pipeline)
    assert views_of_test(own) is None and views_of_test(load(MULTI_SCALE[0]))


def test_both_sizes_are_tested_by_one_pipeline():
    base, large = (_config(name) for name in MULTI_SCALE)
    assert base.tta_pipeline == large.tta_pipeline
    assert base.test_dataloader == large.test_dataloader
