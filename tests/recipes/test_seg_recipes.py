"""The segmentation recipes: labels, metric, tiles, frozen features, and whole small runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import PixelData
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.models.plain_vit import PlainViT
from milan_mm.run.encoder_weights import set_encoder_weights
from milan_mm.run.prepare import TRAINING, prepare
from milan_mm.run.quick import make_quick
from milan_mm.run.run_options import RunOptions
from milan_mm.run.training import test as evaluate
from milan_mm.run.training import train
from tests.helpers import forget_runs, randomise, save_state
from tests.seg_helpers import (
    LINEAR,
    UPERNET,
    WIDTH,
    build_segmentor,
    narrow,
    shorten,
    use_data,
    write_ade,
)

BASE, LARGE, MULTI_SCALE = UPERNET.format("base"), UPERNET.format("large"), UPERNET + "-ms"
RECIPES = [BASE, LARGE, *(MULTI_SCALE.format(arch) for arch in ("base", "large"))]
RECIPES += [LINEAR.format(arch) for arch in ("base", "large")]
# ADE20K stores "none of the classes" as 0 and class c as c+1
STORED_TO_LABEL = {0: 255, 1: 0, 150: 149, 255: 255}


def dataset_of(cfg: Config, loader: str) -> object:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(cfg[loader].dataset)


# Labels and metric


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_stored_labels_are_reduced_once(recipe: str, loader: str, tmp_path: Path):
    uniform = [np.full((64, 80), stored, np.uint8) for stored in STORED_TO_LABEL]
    cfg = shorten(use_data(narrow(recipe), write_ade(tmp_path, uniform)))
    dataset = dataset_of(cfg, loader)
    assert len(dataset) == len(STORED_TO_LABEL)
    for sample, label in zip(dataset, STORED_TO_LABEL.values(), strict=True):
        views = sample["data_samples"]
        for view in views if isinstance(views, list) else [views]:
            assert view.gt_sem_seg.data.unique().tolist() == [label]


def test_a_mixed_label_map_is_reduced_pixel_by_pixel_in_validation(tmp_path: Path):
    stored = np.array(list(STORED_TO_LABEL), np.uint8).repeat(16).reshape(8, 8)
    cfg = use_data(narrow(BASE), write_ade(tmp_path, [stored]))
    (sample,) = dataset_of(cfg, "val_dataloader")
    expected = [[STORED_TO_LABEL[value] for value in row] for row in stored.tolist()]
    assert sample["data_samples"].gt_sem_seg.data[0].tolist() == expected


def test_padding_of_a_training_crop_has_no_label(tmp_path: Path):
    stored = np.random.default_rng(0).integers(1, 151, (32, 64), dtype=np.uint8)
    cfg = shorten(use_data(narrow(BASE), write_ade(tmp_path, [stored])))
    cfg.train_dataloader.dataset.pipeline[2].ratio_range = (0.5, 0.5)
    sample = dataset_of(cfg, "train_dataloader")[0]
    preprocessor = build_segmentor(cfg).data_preprocessor
    out = preprocessor(pseudo_collate([sample]), training=True)
    height, width = sample["inputs"].shape[1:]
    assert height < 64
    labels = out["data_samples"][0].gt_sem_seg.data[0]
    assert (labels[height:] == 255).all() and (labels[:, width:] == 255).all()
    assert labels[:height, :width].max() < 150
    assert (out["inputs"][0, :, height:] == 0).all()


def test_mean_iou_is_that_of_a_plain_loop(tmp_path: Path):
    generator = np.random.default_rng(0)
    stored = [
        generator.choice([0, 1, 2, 5, 80, 150, 255], (size, 30)).astype(np.uint8)
        for size in (20, 33, 47)
    ]
    cfg = use_data(narrow(BASE), write_ade(tmp_path, stored))
    dataset = dataset_of(cfg, "val_dataloader")
    with DefaultScope.overwrite_default_scope("mmseg"):
        evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    inter, union = [0] * 150, [0] * 150
    for sample, values in zip(dataset, stored, strict=True):
        predicted = generator.choice([0, 1, 4, 79, 149, 7], values.shape)
        evaluated = sample["data_samples"]
        evaluated.set_data(dict(pred_sem_seg=PixelData(data=torch.from_numpy(predicted)[None])))
        evaluator.process(data_samples=[evaluated], data_batch=None)
        for value, guess in zip(values.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if value in (0, 255):
                continue
            label = value - 1
            inter[label] += label == guess
            union[label] += 1
            union[guess] += label != guess
    ious = [i / u for i, u in zip(inter, union, strict=True) if u]
    assert len(ious) == 6  # class 7 is predicted and never there
    found = evaluator.evaluate(len(stored))
    assert found["mIoU"] == pytest.approx(100 * sum(ious) / len(ious), abs=0.005)  # rounds to 0.01
    assert found["aAcc"] == pytest.approx(
        100 * sum(inter) / sum((v % 255 > 0).sum() for v in stored), abs=0.005
    )


# Tiles


def tiled(model: nn.Module, image: Tensor, crop: int, stride: int) -> Tensor:
    """Scores (C, H, W) of (3, H, W) as the mean over overlapping square tiles, by hand."""
    height, width = image.shape[1:]
    total, count = torch.zeros(150, height, width), torch.zeros(height, width)
    for top in sorted({min(y, height - crop) for y in range(0, height, stride)}):
        for left in sorted({min(x, width - crop) for x in range(0, width, stride)}):
            tile = image[None, :, top : top + crop, left : left + crop]
            scores = model.decode_head(model.neck(model.backbone(tile)))
            total[:, top : top + crop, left : left + crop] += F.interpolate(
                scores, (crop, crop), mode="bilinear", align_corners=False
            )[0]
            count[top : top + crop, left : left + crop] += 1
    return total / count


@pytest.mark.parametrize("size", [(30, 40), (20, 150), (150, 20), (64, 64)])
def test_an_image_of_any_shape_is_predicted_as_by_tiles_of_the_padded_image(
    size: tuple[int, int], tmp_path: Path
):
    cfg = shorten(use_data(narrow(BASE), write_ade(tmp_path, [np.ones(size, np.uint8)])))
    model = randomise(build_segmentor(cfg)).eval()
    (sample,) = dataset_of(cfg, "val_dataloader")
    height, width = sample["inputs"].shape[1:]
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([sample]))
        image = sample["inputs"].flip(0).float()  # BGR to RGB
        image = (image - model.data_preprocessor.mean) / model.data_preprocessor.std
        image = F.pad(image, (0, max(0, 64 - width), 0, max(0, 64 - height)))
        scores = tiled(model, image, crop=64, stride=42)[:, :height, :width]
        scores = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    assert result.pred_sem_seg.data.shape == (1, *size)
    torch.testing.assert_close(result.seg_logits.data, scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 48), (32, 96), (80, 48)])
def test_a_tile_smaller_than_the_crop_needs_no_padding(size: tuple[int, int]):
    model = randomise(build_segmentor(shorten(narrow(BASE)))).eval()
    image = torch.randn(1, 3, *size)
    meta = dict(ori_shape=size, img_shape=torch.Size(size))
    with torch.no_grad():
        scores = model.inference(image, [meta])
        if max(size) <= 64:
            whole = model.decode_head(model.neck(model.backbone(image)))
            whole = F.interpolate(whole, size, mode="bilinear", align_corners=False)
            torch.testing.assert_close(scores, whole)
    assert scores.shape == (1, 150, *size)
    assert scores.isfinite().all()


# Frozen features


def probe_step(cfg: Config) -> tuple[nn.Module, dict[str, Tensor], set[int]]:
    """One training step of a probe: the model, its state before, the optimised parameters."""
    model = randomise(build_segmentor(cfg)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = pseudo_collate([dataset_of(cfg, "train_dataloader")[i] for i in range(2)])
    model.train_step(batch, optim_wrapper)
    return model, before, {id(p) for g in optim_wrapper.param_groups for p in g["params"]}


@pytest.mark.parametrize("arch", ["base", "large"])
def test_a_step_of_the_probe_changes_the_head_and_no_backbone_tensor(arch: str, tmp_path: Path):
    labels = np.random.default_rng(0).integers(0, 151, (64, 64), dtype=np.uint8)
    cfg = shorten(use_data(narrow(LINEAR.format(arch)), write_ade(tmp_path, [labels] * 2)))
    model, before, optimised = probe_step(cfg)
    parameters = dict(model.named_parameters())
    head = {name for name in parameters if name.startswith(("neck.", "decode_head."))}
    assert {name for name, p in parameters.items() if id(p) in optimised} == head
    assert head == {
        *(f"neck.norms.0.{kind}" for kind in ("weight", "bias")),
        *(f"decode_head.conv_seg.{kind}" for kind in ("weight", "bias")),
    }
    after = model.state_dict()
    unchanged = {name for name in after if torch.equal(after[name], before[name])}
    assert unchanged == {name for name in after if name.startswith("backbone.")}
    assert not model.backbone.training and model.neck.training


def test_the_probe_is_a_normalisation_and_a_linear_layer_on_the_last_normalised_map():
    model = randomise(build_segmentor(shorten(narrow(LINEAR.format("base"))))).eval()
    model.neck.norms[0].running_mean.normal_()
    model.neck.norms[0].running_var.uniform_(0.5, 2)
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        scores = model(image, None, mode="tensor")
        tokens = model.backbone.encode(model.backbone.embed(image))[0, 1:]  # (6, D)
        norm, linear = model.neck.norms[0], model.decode_head.conv_seg
        tokens = (tokens - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
        tokens = tokens * norm.weight + norm.bias
        expected = tokens @ linear.weight[:, :, 0, 0].T + linear.bias
    torch.testing.assert_close(scores[0].flatten(1).T, expected, rtol=1e-4, atol=1e-5)


# Optimisation


@pytest.mark.parametrize(
    ("recipe", "lr", "weight_decay"),
    [(BASE, 1e-4, 0.05), (LARGE, 4e-5, 0.05), (LINEAR.format("base"), 1e-3, 1e-4)],
)
def test_rate_and_decay_are_the_published_ones(recipe: str, lr: float, weight_decay: float):
    optimizer = load(recipe).optim_wrapper.optimizer
    assert optimizer.type == "AdamW"
    assert (optimizer.lr, optimizer.weight_decay) == (lr, weight_decay)


# Whole runs


def small_run(recipe: str, root: Path, work_dir: Path) -> Config:
    """A recipe on small images, shrunk by --quick, ready for `train` or `evaluate`."""
    forget_runs()
    cfg = shorten(use_data(narrow(recipe), root))
    prepare(cfg, RunOptions(work_dir=str(work_dir), shorten=make_quick), TRAINING)
    return cfg


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    return write_ade(
        tmp_path / "ade", [generator.integers(0, 151, (72, 96), dtype=np.uint8) for _ in range(4)]
    )


@pytest.mark.long
def test_one_checkpoint_is_tested_at_one_scale_and_at_many(ade: Path, tmp_path: Path):
    train(small_run(BASE, ade, tmp_path / "run"), None, [])
    checkpoint = str(tmp_path / "run/iter_4.pth")
    for recipe in (BASE, MULTI_SCALE.format("base")):
        metrics = evaluate(small_run(recipe, ade, tmp_path / "test"), checkpoint, [])
        assert metrics["aAcc"] > 0  # some pixels are right: labels and predictions meet
    with pytest.raises(ValueError, match=r"iter_4\.pth is missing .* it belongs to another config"):
        evaluate(small_run(LINEAR.format("base"), ade, tmp_path / "test"), checkpoint, [])
    linear = small_run(MULTI_SCALE.format("base"), ade, tmp_path / "test")
    linear.model.decode_head.channels = 24
    with pytest.raises(ValueError, match=r"has other shapes of .* it belongs to another config"):
        evaluate(linear, checkpoint, [])


@pytest.mark.long
def test_a_probe_keeps_its_encoder_from_the_file_to_the_checkpoint(ade: Path, tmp_path: Path):
    arch = dict(embed_dims=WIDTH, num_layers=4, num_heads=4)
    encoder = randomise(PlainViT(arch=arch, img_size=224)).state_dict()
    cfg = small_run(LINEAR.format("base"), ade, tmp_path / "run")
    set_encoder_weights(cfg, str(save_state(encoder, tmp_path)))
    train(cfg, None, [])
    checkpoint = tmp_path / "run/iter_4.pth"
    saved = torch.load(checkpoint, weights_only=False)
    for name, tensor in encoder.items():
        assert torch.equal(saved["state_dict"][f"backbone.{name}"], tensor)
    assert len(saved["optimizer"]["state"]) == 4  # two tensors each of the norm and the layer
    metrics = evaluate(
        small_run(LINEAR.format("base"), ade, tmp_path / "test"), str(checkpoint), []
    )
    assert metrics["aAcc"] > 0


def test_a_test_with_views_and_no_model_to_merge_them_is_refused(ade: Path, tmp_path: Path):
    cfg = small_run(MULTI_SCALE.format("base"), ade, tmp_path / "test")
    cfg.test_dataloader.dataset.pipeline, cfg.tta_model = cfg.tta_pipeline, None
    checkpoint = save_state(dict(state_dict={}), tmp_path)
    with pytest.raises(ValueError, match=r"has no tta_model .*milan_mm\.MultiScaleSegmentor"):
        evaluate(cfg, str(checkpoint), [])


def test_a_label_that_no_class_has_stops_a_run_before_anything_is_written(tmp_path: Path):
    root = write_ade(tmp_path / "ade", [np.full((64, 64), 151, np.uint8)] * 2)
    with pytest.raises(ValueError, match=r"training/000\.png' holds 151; allowed are 1\.\.150"):
        train(small_run(BASE, root, tmp_path / "run"), None, [])
    assert not (tmp_path / "run").exists()
