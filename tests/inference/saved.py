"""Checkpoints as a training would save them, of random weights: no run is needed."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from milan_mm.configs import load
from milan_mm.registry import MODELS
from milan_mm.run.prepare import RECIPE, prepare
from milan_mm.run.records.record import KEY, record_of
from milan_mm.run.run_options import RunOptions
from milan_mm.run.silence import silence
from tests.helpers import randomise

DET = "det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes"
SEG = "seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96"
CLS = "cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes"
PRETRAIN = "pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes"
# narrow and shallow, so that a picture takes hundredths of a second
SMALL = {
    DET: dict(
        backbone=dict(arch=dict(embed_dims=48, num_layers=4, num_heads=4), global_layers=(1, 3)),
        neck=dict(in_channels=48),
        test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)),
    ),
    SEG: dict(
        backbone=dict(
            arch=dict(embed_dims=48, num_layers=4, num_heads=4), out_indices=(0, 1, 2, 3)
        ),
        neck=dict(embed_dim=48),
        decode_head=dict(in_channels=[48] * 4),
        auxiliary_head=dict(in_channels=48),
    ),
}


def write_config(recipe: str, path: Path) -> Path:
    """A recipe with a small model, as a file."""
    cfg = load(recipe)
    cfg.merge_from_dict(dict(model=SMALL.get(recipe, {})))
    cfg.dump(path)
    return path


def save_checkpoint(
    cfg: Config,
    path: Path,
    classes: tuple[str, ...] | None = None,
    record: bool = True,
    **dataset_meta: object,
) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint of a model as its config describes it; also returns its tensors."""
    settings = cfg.model.copy()
    if cfg.get("data_preprocessor"):
        settings.setdefault("data_preprocessor", cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), silence():
        model = randomise(MODELS.build(settings))
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(dataset_meta))
    if classes:
        meta["dataset_meta"]["classes"] = classes
    if record:
        meta[KEY] = record_of(cfg) | dict(classes=list(classes) if classes else None)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return path, model.state_dict()


def save_recipe(
    recipe: str, folder: Path, data: Path | None = None, **settings
) -> tuple[Path, Path, dict[str, torch.Tensor]]:
    """Config and checkpoint of a recipe, on own data if there are some, and its tensors."""
    config = write_config(recipe, folder / "config.py")
    cfg = load(config)
    prepare(cfg, RunOptions(data=data and str(data)), RECIPE)
    if data:
        settings["classes"] = tuple(cfg.train_dataloader.dataset.metainfo.classes)
    path, tensors = save_checkpoint(cfg, folder / "epoch_1.pth", **settings)
    return config, path, tensors
