"""A warm-up that is as long as those of the published codes."""

from mmengine.optim import LinearLR, OptimWrapper

from milan_mm.registry import PARAM_SCHEDULERS

_NEVER = int(1e9)  # mmengine's own default for the end of a scheduler


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LinearLR):
    """A linear warm-up that is over at update `end`, which is the first one at the full rate.

    mmengine's `LinearLR` has the full rate one update earlier: it divides the way into
    `end - begin - 1` steps. MAE, MILAN and detectron2 divide it into `end - begin`.

    Args:
        optimizer: Whose rates are raised.
        start_factor: Share of the rate in the first update, 0-1.
        begin, end: In updates, or in epochs.
        settings: Further ones of `LinearLR`.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        start_factor: float = 1e-9,
        begin: int = 0,
        end: int = _NEVER,
        **settings: object,
    ) -> None:
        super().__init__(optimizer, start_factor, begin=begin, end=end + 1, **settings)
