"""The demo's pictures, made with the checkpoints that its jobs left."""

from collections.abc import Mapping

import numpy as np

from milan_mm.look.dense import dense_figure, read_trained, read_truths
from milan_mm.look.masks import read_pretraining
from milan_mm.look.outcome import Wording
from milan_mm.run.jobs import Job
from milan_mm.shapes.scenes import render_scene
from milan_mm.visualization.figure_files import picture_of
from milan_mm.visualization.pretraining import pretraining_sheet
from milan_mm.visualization.style import PAGE_WIDTH

DPI = 144  # of a page that is read on a screen
UNSEEN_SEED = 40_000_000  # far from the seeds of the data set
SCORE_THR = 0.5


def pretraining_picture(job: Job, num_images: int) -> np.ndarray:
    """Sampling, kept patches and loss of a pretraining job on unseen scenes, as a picture."""
    model = read_pretraining(str(job.checkpoint)).model
    images = np.stack([render_scene(UNSEEN_SEED + i).image for i in range(num_images)])
    return pretraining_sheet(model, images, dpi=DPI)


def transfer_picture(jobs: Mapping[str, Job], num_images: int) -> np.ndarray:
    """Ground truth and the predictions of several jobs of one task, side by side, as a picture.

    Args:
        jobs: Jobs of the same task by the title of their column.
        num_images: Images of the validation set, evenly spaced.
    """
    files = [str(job.checkpoint) for job in jobs.values()]
    first = next(iter(jobs.values()))
    models = read_trained(files, first.task, list(jobs))
    truths, root = read_truths(next(iter(models.values())), None, num_images)
    wording = Wording(command="python tools/demo.py", caption=False, width=PAGE_WIDTH)
    return picture_of(dense_figure(models, truths, root, SCORE_THR, wording).figure, DPI)
