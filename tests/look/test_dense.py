"""Truth and predictions side by side: the truth is that of the files, the models are of one task."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from milan_mm.configs import load
from milan_mm.errors import UserError
from milan_mm.inference.restoring import Restored
from milan_mm.look.dense import dense_figure, read_trained, read_truths
from milan_mm.registry import MODELS
from milan_mm.visualization.drawing import UNLABELLED
from tests.look.conftest import WORDING
from tests.run.own_data.folders import coco_folder, label_pairs

RECIPES = dict(
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)


def checkpoint(task: str, path: Path, classes: tuple[str, ...]) -> str:
    """A file as a training leaves it, with random weights."""
    config = load(RECIPES[task])
    config.model.backbone.update(arch=dict(embed_dims=48, num_layers=6, num_heads=4))
    for head in ("neck", "decode_head", "auxiliary_head"):
        part = config.model.get(head)
        if part and part.get("in_channels") == 192:
            part.in_channels = 48
    if task == "seg":
        config.model.neck.update(in_channels=48)
        config.model.decode_head.update(in_channels=[48] * 4)
        config.model.auxiliary_head.update(in_channels=48)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(copy.deepcopy(config.model))
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return str(path)
