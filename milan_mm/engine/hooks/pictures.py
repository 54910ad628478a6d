"""Pictures of a pretraining while it runs: sampling probability, kept patches, loss per patch."""

from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.engine.sharding import gather_weights
from milan_mm.engine.undisturbed import undisturbed
from milan_mm.engine.unwrapping import unwrapped
from milan_mm.registry import HOOKS
from milan_mm.visualization.pretraining import as_pixels, pretraining_sheet

NAME = "masks"
_PICTURES = 20  # of a run, where no interval is given
_DPI = 120


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draws the same images again and again, as the training sees them at that moment.

    They are the first ones of the run's first batch, and their patches are drawn anew each time. A
    picture is made after the first iteration, every `interval` iterations, and at the end.
    mmengine's visualizer takes it, so it is in the work directory
    (`vis_data/vis_image/masks_N.png`) and with every tracker. One that fails is left out with a
    warning: no picture is worth a training.

    Args:
        interval: Iterations between two pictures; None makes about 20 in all.
        num_images: Rows of a picture.
    """

    priority = "ABOVE_NORMAL"  # before IterTimerHook, so that drawing does not count as waiting

    def __init__(self, interval: int | None = None, num_images: int = 4) -> None:
        self.interval = interval
        self.num_images = num_images
        self._is_first = True
        self._images: np.ndarray | None = None

    def before_train(self, runner: Runner) -> None:
        """Settle the interval."""
        self.interval = self.interval or max(runner.max_iters // _PICTURES, 1)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Draw, on the main process."""
        if data_batch is None:
            return
        done = runner.iter + 1
        if not (self._is_first or done % self.interval == 0 or done == runner.max_iters):
            return
        self._is_first = False
        gather_weights(runner.model)  # with the other processes
        if not is_main_process():
            return
        try:
            self._draw(runner, data_batch["inputs"], done)
        except Exception:
            runner.logger.warning(f"no picture of iteration {done}", exc_info=True)

    def _draw(self, runner: Runner, inputs: Any, done: int) -> None:
        model: Any = unwrapped(runner.model)
        if self._images is None:
            self._images = _shown(model.data_preprocessor, inputs[: self.num_images])
        # the wrapper's precision: casts of the teacher's weights may be kept in it
        with undisturbed(model), runner.optim_wrapper.optim_context(model):
            sheet = pretraining_sheet(model, self._images, seeds=(runner.seed,), dpi=_DPI)
        runner.visualizer.add_image(NAME, sheet, step=done)


def _shown(preprocessor: Any, inputs: Any) -> np.ndarray:
    """Images of a batch as the model sees them, (B, H, W, 3) uint8, RGB."""
    inputs = inputs if torch.is_tensor(inputs) else torch.stack(list(inputs))
    normalised = preprocessor(dict(inputs=inputs, data_samples=None), False)["inputs"]
    return as_pixels(preprocessor, normalised)
