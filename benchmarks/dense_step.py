"""`benchmark.py dense --step`: where the time of a Mask R-CNN or UperNet training step goes.

Model, precision and optimizer are the recipe's; weights and images are random. The parts of the
forward pass are timed as they are called, those of the backward pass by the moments at which
gradients reach the outputs of neck and backbone.
"""

from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from benchmarks.stopwatch import Stopwatch
from milan_mm.benchmark.contest import default_device, now
from milan_mm.configs import load
from milan_mm.engine.memory import keep_freed_memory
from milan_mm.errors import UserError
from milan_mm.registry import MODELS
from milan_mm.run.machine import fit_to_machine
from milan_mm.run.silence import silence

RECIPES = {
    "det": "det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
    "seg": "seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
}
# Methods of a model's parts that compute its losses, one within the other where the names say so
LOSSES = {
    "det": {
        "RPN": "rpn_head.loss_and_predict",
        "RoI sampling": "roi_head.loss",
        "box head": "roi_head.bbox_loss",
        "mask head": "roi_head.mask_loss",
    },
    "seg": {"decode head": "decode_head.loss", "auxiliary head": "auxiliary_head.loss"},
}
OBJECTS = 20  # per image of the detector, as in a crowded image of COCO
BATCHES = {"det": 1, "seg": 2}


def profile_step(task: str, batch: int | None, rounds: int, threads: int) -> None:
    """Print the seconds of every part of a step, the mean of `rounds` after one to warm up.

    Args:
        task: A key of `RECIPES`.
        batch: Images; None takes that of `BATCHES`.
        rounds: Measured steps.
        threads: CPU threads.

    Raises:
        UserError: For a batch without images.
    """
    if batch is not None and batch < 1:
        raise UserError(f"--batch {batch}: give 1 or more images")
    keep_freed_memory()  # as in tools/train.py
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cfg = load(RECIPES[task])
    init_default_scope(cfg.default_scope)
    with silence():
        notes = fit_to_machine(cfg, "none")
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    device = default_device()
    data = make_data(task, batch or BATCHES[task], cfg)
    seconds = time_step(model.to(device).train(), optimizer, data, LOSSES[task], rounds)
    print(f"{RECIPES[task]}, {batch or BATCHES[task]} image(s), {threads} threads")
    print("\n".join(notes))
    print(table(seconds))
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def time_step(
    model: BaseModel, optimizer: OptimWrapper, data: dict, losses: dict[str, str], rounds: int
) -> dict[str, float]:
    """Seconds of every part of a training step, the mean of `rounds` after one to warm up.

    Args:
        model: Of mmdet or mmseg, with `backbone` and `neck`.
        losses: Name to 'part.method' of the model, as in `LOSSES`.
    """
    watch = Stopwatch(now)
    for name, place in losses.items():
        part, method = place.split(".")
        owner = model.get_submodule(part)
        setattr(owner, method, watch.timed(name, getattr(owner, method)))
    arrivals: dict[str, float] = {}
    for name in ("backbone", "neck"):
        _watch_module(model.get_submodule(name), name, watch, arrivals)
    for round_ in range(rounds + 1):
        if round_ == 1:
            watch.seconds.clear()
        _step(model, optimizer, data, watch, arrivals)
    return {name: value / rounds for name, value in watch.seconds.items()}


def _step(
    model: BaseModel,
    optimizer: OptimWrapper,
    data: dict,
    watch: Stopwatch,
    arrivals: dict[str, float],
) -> None:
    with optimizer.optim_context(model):
        batch = watch.timed("preprocessing", model.data_preprocessor)(data, True)
        parts = watch.timed("other parts of the forward pass", model)(**batch, mode="loss")
        loss, _ = model.parse_losses(parts)
    start = now()
    optimizer.backward(loss)
    end = now()
    heads, neck = arrivals["neck"], arrivals["backbone"]
    watch.seconds["heads, backward"] += heads - start
    watch.seconds["neck, backward"] += neck - heads
    watch.seconds["backbone, backward"] += end - neck
    watch.timed("optimizer", optimizer.step)()
    optimizer.zero_grad()


def _watch_module(
    module: nn.Module, name: str, watch: Stopwatch, arrivals: dict[str, float]
) -> None:
    """Time the forward pass, and note when the last gradient reaches one of the outputs.

    By hooks: mixed precision replaces `forward`.
    """
    starts: list[float] = []

    def arrived(gradient: Tensor) -> None:
        arrivals[name] = now()

    def leave(module: nn.Module, inputs: tuple, outs: tuple[Tensor, ...]) -> None:
        watch.stop(name, starts.pop())
        for out in outs:
            out.register_hook(arrived)

    module.register_forward_pre_hook(lambda module, inputs: starts.append(watch.start()))
    module.register_forward_hook(leave)


def make_data(task: str, batch: int, cfg: Config) -> dict:
    """Random images and labels, as a data loader would hand them to the model."""
    rng = np.random.default_rng(0)
    size = cfg.img_size if task == "det" else cfg.crop_size
    make_sample = _detection_sample if task == "det" else _segmentation_sample
    samples = [make_sample(rng, size, cfg) for _ in range(batch)]
    for sample in samples:
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    images = rng.integers(0, 256, (batch, 3, *size), dtype=np.uint8)
    return dict(inputs=list(torch.from_numpy(images)), data_samples=samples)


def _detection_sample(rng: np.random.Generator, size: tuple[int, int], cfg: Config) -> Any:
    """Boxes of 16 to half of the image's side, filled by their masks."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    sides = np.exp(rng.uniform(np.log(16), np.log(min(size) / 2), (OBJECTS, 2)))
    corners = rng.uniform(0, 1, (OBJECTS, 2)) * (np.array([width, height]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)  # (n, 4): x1 y1 x2 y2
    masks = np.zeros((OBJECTS, height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    num_classes = cfg.model.roi_head.bbox_head.num_classes
    instances = InstanceData(
        bboxes=torch.from_numpy(boxes).float(),
        labels=torch.from_numpy(rng.integers(0, num_classes, OBJECTS)),
        masks=BitmapMasks(masks, height, width),
    )
    return DetDataSample(gt_instances=instances)


def _segmentation_sample(rng: np.random.Generator, size: tuple[int, int], cfg: Config) -> Any:
    from mmseg.structures import SegDataSample

    labels = torch.from_numpy(rng.integers(0, cfg.num_classes, (1, *size)))
    return SegDataSample(gt_sem_seg=PixelData(data=labels))


def table(seconds: dict[str, float]) -> str:
    """One line per part, in the order of the step, with its share of the whole."""
    total = sum(seconds.values())
    width = max(map(len, seconds))
    rows = [f"{name:<{width}}  {s:7.2f} s  {s / total:4.0%}" for name, s in seconds.items()]
    return "\n".join([*rows, f"{'whole step':<{width}}  {total:7.2f} s"])
