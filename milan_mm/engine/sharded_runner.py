"""The runner of `--fsdp`: starts and saves as any other, and trains spread over the processes."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.optim import Optimizer

from milan_mm.engine.sharding import FullySharded
from milan_mm.engine.unwrapping import optim_wrappers
from milan_mm.registry import RUNNERS


@RUNNERS.register_module()
class ShardedRunner(Runner):
    """mmengine's runner for a model that `FullySharded` wraps.

    Until training begins every process holds the whole model and the whole optimizer, so that
    initialising, loading and resuming are those of one process. Checkpoints are in the layout of
    one process too: a run may go on with or without `--fsdp`.
    """

    def load_or_resume(self) -> None:
        """As mmengine's; then model and optimizer are spread."""
        super().load_or_resume()
        if not isinstance(self.model, FullySharded):
            return
        self.model.shard(self._optimizers())
        mine, whole = self.model.share()
        self.logger.info(
            f"FSDP: this process keeps {mine:,} of the model's {whole:,} numbers, with their "
            "gradients and optimizer states"
        )

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, **kwargs: Any) -> None:
        """As mmengine's; must be called on all processes, which gather the tensors together.

        Before that, `before_saving` is called of hooks that have it.
        """
        if not isinstance(self.model, FullySharded):
            super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
            return
        self.call_hook("before_saving")
        with self.model.whole_states(self._optimizers()):
            if is_main_process():
                super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
            else:
                self.model.module.state_dict()
                if save_optimizer:
                    self.optim_wrapper.state_dict()

    def _optimizers(self) -> list[Optimizer]:
        """Of the run; none where it only validates, so that they are not built."""
        wrappers = optim_wrappers(self.optim_wrapper)
        return [wrapper.optimizer for wrapper in wrappers if isinstance(wrapper, OptimWrapper)]
