"""mmengine's backends of W&B and MLflow, for what theirs cannot do with runs of this package.

TensorBoard's needs no change. All three are chosen by `milan_mm.run.tracking`.
"""

from typing import Any

import numpy as np
from mmengine import visualization
from mmengine.config import Config

from milan_mm.registry import VISBACKENDS


@VISBACKENDS.register_module()
class WandbVisBackend(visualization.WandbVisBackend):
    """W&B, without a copy of the user's code.

    mmengine's uploads every Python file below the current folder, virtual environments included,
    and ends the run by a function that W&B has renamed.
    """

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config; a resumed run may have another one in places."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def close(self) -> None:
        """End the run, if one was started."""
        if self._env_initialized:
            self.experiment.finish()


@VISBACKENDS.register_module()
class MLflowVisBackend(visualization.MLflowVisBackend):
    """MLflow, with pictures: it takes their type from the name, and keeps one of each name."""

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record a picture, (H, W, 3) uint8, RGB, as `name/step.png`."""
        super().add_image(f"{name}/{step:08}.png", image, step, **kwargs)
