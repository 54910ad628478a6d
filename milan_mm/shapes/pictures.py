"""The demo's pictures, made with the checkpoints that its jobs left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from milan_mm.configs import load
from milan_mm.run.jobs import Job
from milan_mm.shapes.captions import SIZES
from milan_mm.shapes.scenes import DENSE_CLASSES, render_scene
from milan_mm.visualization.dense import draw_instances, draw_labels
from milan_mm.visualization.pictures import enlarge, grid
from milan_mm.visualization.pretraining import pretraining_sheet
from milan_mm.weights.reading import read_checkpoint

STUFF_COLOURS = [(226, 200, 140), (110, 160, 70), (90, 150, 190)]
SIZE_COLOURS = [(240, 150, 30), (220, 50, 50)]
LEGENDS = dict(
    det=dict(zip(SIZES, SIZE_COLOURS, strict=True)),
    seg=dict(zip(DENSE_CLASSES, STUFF_COLOURS + SIZE_COLOURS, strict=True)),
)
ZOOM = 2
UNSEEN_SEED = 40_000_000  # far from the seeds of the data set


def pretraining_picture(job: Job, num_images: int) -> np.ndarray:
    """Attention, kept patches and loss map of a pretraining job on unseen scenes."""
    model = load_model(job)
    torch.manual_seed(0)  # the same masks in every report
    images = np.stack([render_scene(UNSEEN_SEED + i).image for i in range(num_images)])
    return pretraining_sheet(model, images, ZOOM)


def transfer_picture(jobs: Mapping[str, Job], num_images: int) -> np.ndarray:
    """Ground truth and the predictions of several jobs of one task, side by side.

    Args:
        jobs: Jobs of the same task by the title of their column.
        num_images: The first images of the validation set are shown.
    """
    first = next(iter(jobs.values()))
    draw = _draw_detection if first.task == "det" else _draw_segmentation
    columns = {title: load_model(job) for title, job in jobs.items()}
    config = _config_of(first)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    rows = []
    for index in range(num_images):
        sample = dataset[index]
        image = sample["inputs"].permute(1, 2, 0).numpy()[..., ::-1]  # BGR to RGB
        truth = sample["data_samples"]
        row = [enlarge(image, ZOOM), draw(image, truth, None)]
        for model in columns.values():
            with torch.no_grad():
                prediction = model.test_step(pseudo_collate([dataset[index]]))[0]
            row.append(draw(image, truth, prediction))
        rows.append(row)
    return grid(rows, ["image", "ground truth", *columns])


def load_model(job: Job) -> Any:
    """The trained model of a job, in eval mode."""
    config = _config_of(job)
    config.model.backbone.init_cfg = None  # everything comes from the checkpoint
    model = MODELS.build(config.model)
    model.load_state_dict(read_checkpoint(job.checkpoint)["state_dict"])
    return model.eval()


def _config_of(job: Job) -> Config:
    """The config that the job ran with, as dumped into its work dir."""
    (path,) = Path(job.work_dir).glob("*.py")
    config = load(path)
    init_default_scope(config.default_scope)
    return config


def _draw_detection(image: np.ndarray, truth: Any, prediction: Any) -> np.ndarray:
    if prediction is None:
        instances = truth.gt_instances
        instances = instances.new(
            bboxes=instances.bboxes.tensor, labels=instances.labels, masks=instances.masks.masks
        )
    else:
        instances = prediction.pred_instances
    return draw_instances(image, instances, SIZES, SIZE_COLOURS, ZOOM)


def _draw_segmentation(image: np.ndarray, truth: Any, prediction: Any) -> np.ndarray:
    labels = (truth.gt_sem_seg if prediction is None else prediction.pred_sem_seg).data[0].numpy()
    return draw_labels(image, labels, STUFF_COLOURS + SIZE_COLOURS, ZOOM)
