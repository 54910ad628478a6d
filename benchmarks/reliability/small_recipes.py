"""Trainings of seconds of all four tasks, on generated scenes, with all that draws random numbers.

Each makes updates of 8 images at 96 px, and saves after every second one: two parts to an update,
dropped paths, and, by task, masks, mixup and CutMix with an average of the weights, sampled
regions, or dropout.
"""

from pathlib import Path

from mmengine.config import Config

from milan_mm.configs import load
from milan_mm.shapes.files import write_shapes

RECIPES = dict(
    pretrain="pretrain/milan_vit-micro-p8_1xb32-coslr-2e_shapes",
    cls="cls/finetune_vit-micro-p8_1xb32-coslr-5e_shapes",
    det="det/mask-rcnn_vit-mini-p8_1xb8-250i_shapes",
    seg="seg/upernet_vit-mini-p8_1xb8-250i_shapes-96x96",
)
TASKS = tuple(RECIPES)
UPDATES, TOTAL_BATCH = 12, 8
_PER_EPOCH, _IMAGES = 3, 27  # updates of an epoch, which leaves a tail
_WIDTH, _CHANNELS = 48, 16


def write_images(folder: Path) -> None:
    """The scenes of all tasks, if they are not there yet."""
    write_shapes(folder, _IMAGES, _IMAGES, 24, progress=False)


def small_recipe(
    task: str, images: Path, work_dir: Path, updates: int = UPDATES, workers: int = 2
) -> Config:
    """The recipe of a task, made small.

    Args:
        task: Of `TASKS`.
        images: See `write_images`.
        updates: A multiple of 6: whole epochs, and two validations.
    """
    cfg = load(RECIPES[task])
    backbone = cfg.model.backbone
    backbone.arch = dict(embed_dims=_WIDTH, num_layers=2, num_heads=4)
    backbone.drop_path_rate = 0.3
    cfg.work_dir = str(work_dir)
    cfg.total_batch = cfg.auto_scale_lr.base_batch_size = TOTAL_BATCH
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.setdefault("checkpoint", {}).update(
        type="CheckpointHook", by_epoch=False, interval=2, max_keep_ckpts=-1
    )
    cfg.default_hooks.logger = dict(type="LoggerHook", interval=1)
    for name in ("train_dataloader", "val_dataloader"):
        if loader := cfg.get(name):
            loader.update(num_workers=workers, persistent_workers=workers > 0)
    cfg.train_dataloader.batch_size = TOTAL_BATCH // 2
    _SMALLER[task](cfg, images)
    _set_length(cfg, updates)
    return cfg


def _pretrain(cfg: Config, images: Path) -> None:
    cfg.model.decoder.update(embed_dims=_WIDTH, decoder_embed_dims=32)
    cfg.train_dataloader.dataset.data_root = str(images / "imagenet")


def _cls(cfg: Config, images: Path) -> None:
    cfg.model.head.in_channels = _WIDTH
    cfg.model.train_cfg = dict(
        augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]
    )
    classes = len([*(images / "imagenet/train").iterdir()])
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = classes
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(images / "imagenet")
    cfg.default_hooks.checkpoint.save_best = "accuracy/top1"
    cfg.custom_hooks.append(dict(type="EMAHook", momentum=0.1))


def _det(cfg: Config, images: Path) -> None:
    model, root = cfg.model, f"{images}/coco/"
    model.backbone.update(global_layers=(1,))
    model.neck.update(in_channels=_WIDTH, out_channels=_CHANNELS)
    model.rpn_head.update(in_channels=_CHANNELS, feat_channels=_CHANNELS)
    heads = model.roi_head
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        heads[part].out_channels = _CHANNELS
    heads.bbox_head.update(in_channels=_CHANNELS, fc_out_channels=32)
    heads.mask_head.update(in_channels=_CHANNELS, conv_out_channels=_CHANNELS)
    model.train_cfg.rcnn.sampler.num = 16  # far fewer than there are
    model.test_cfg.rpn.max_per_img = model.test_cfg.rcnn.max_per_img = 10
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = root
    cfg.val_evaluator.ann_file = root + "annotations/instances_val2017.json"


def _seg(cfg: Config, images: Path) -> None:
    model = cfg.model
    model.backbone.arch.num_layers = 4
    model.backbone.out_indices = (0, 1, 2, 3)
    model.neck.embed_dim = _WIDTH
    model.decode_head.update(in_channels=[_WIDTH] * 4, channels=_CHANNELS, dropout_ratio=0.1)
    model.auxiliary_head.update(in_channels=_WIDTH, channels=_CHANNELS)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(images / "ade/ADEChallengeData2016")


_SMALLER = dict(pretrain=_pretrain, cls=_cls, det=_det, seg=_seg)


def _set_length(cfg: Config, updates: int) -> None:
    warm_up, decay = cfg.param_scheduler
    warm_up.end = 2
    if "max_epochs" in cfg.train_cfg:
        decay.T_max = updates // _PER_EPOCH
        cfg.train_cfg.update(max_epochs=decay.T_max, val_interval=decay.T_max // 2)
    else:
        decay.begin, decay.end = 2, updates
        cfg.train_cfg.update(max_iters=updates, val_interval=updates // 2)
