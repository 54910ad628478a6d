"""How many images have each class, for losses that ask."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from milan_mm.datasets.class_counts import images_per_class
from milan_mm.registry import HOOKS


@HOOKS.register_module()
class ClassCountsHook(Hook):
    """Counts the images of each class before a training, for modules with `set_image_counts`.

    It is in every training, and does nothing where no module asks.
    """

    def before_train(self, runner: Runner) -> None:
        """Count, once.

        Raises:
            UserError: When the data set does not know the classes of its images.
        """
        asking = [m for m in runner.model.modules() if hasattr(m, "set_image_counts")]
        if asking:
            counts = torch.tensor(images_per_class(runner.train_dataloader.dataset))
            for module in asking:
                module.set_image_counts(counts)
