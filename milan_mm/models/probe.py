"""Batch normalisation between frozen features and a linear head."""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from milan_mm.registry import MODELS


@MODELS.register_module()
class BatchNormNeck(BaseModule):
    """Normalises every channel of a map to mean 0 and variance 1, then scales and shifts it.

    One learning rate then suits the features of any encoder. Followed by mmseg's `FCNHead` without
    convolutions, this is the linear head of DINOv2 (arXiv 2304.07193).

    Args:
        embed_dims: Channels D of each map.
        num_maps: Maps that the backbone returns; each has its own normalisation.
        norm_cfg: mmcv's, e.g. `dict(type='SyncBN')`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_maps: int = 1,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or dict(type="BN")
        self.norms = nn.ModuleList(
            build_norm_layer(norm_cfg, embed_dims)[1] for _ in range(num_maps)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of (B, D, h, w) each, to maps of the same shapes."""
        return tuple(norm(x) for norm, x in zip(self.norms, maps, strict=True))
