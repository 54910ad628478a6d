"""Depth of any picture, as the test of the training predicts it, in files that others read."""

import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmseg.apis import inference_model, init_model

from milan_mm.configs import load
from milan_mm.evaluation.recipes import recipe_name
from milan_mm.inference.classes import Classes
from milan_mm.inference.pictures import find_pictures
from milan_mm.inference.predicting import Predictor
from milan_mm.inference.restoring import restore
from milan_mm.inference.results import writing
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.run_options import RunOptions
from tests.inference.saved import save_checkpoint


def test_depths_are_those_of_mmseg_and_are_written_in_millimetres(tmp_path: Path):
    cfg = load(recipe_name("nyu-depth", "base"))
    cfg.model.backbone.arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    cfg.model.neck.update(embed_dims=48, norm_cfg=dict(type="BN"))
    cfg.model.decode_head.in_channels = 48
    cfg.dump(tmp_path / "config.py")
    prepare(cfg, RunOptions(), RECIPE)
    checkpoint, _ = save_checkpoint(cfg, tmp_path / "iter_1.pth")
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    restored = restore(checkpoint, "cpu")
    pictures, _ = find_pictures([str(tmp_path / "photo.png")], tmp_path / "out")
    (found,) = Predictor(restored)(pictures)
    assert restored.task == "depth" and found.found.shape == (90, 130)
    with writing(tmp_path / "out", "depth", Classes.of(restored), 0.3) as results:
        results.add(found)
    stored = cv2.imread(str(tmp_path / "out/depth/photo.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 1000, found.found, atol=6e-4)
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["farthest"]) == round(float(found.found.max()), 3)
    assert cv2.imread(str(tmp_path / "out/pictures/photo.jpg")).shape == (90, 260, 3)
    model = init_model(str(tmp_path / "config.py"), str(checkpoint), device="cpu")
    with DefaultScope.overwrite_default_scope("mmseg"):
        theirs = inference_model(model, photo).pred_depth_map.data.squeeze()
    torch.testing.assert_close(torch.from_numpy(found.found), theirs)
