"""Feature pyramids from the single map of a plain ViT."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps of several strides from the single map of a plain ViT (arXiv 2203.16527).

    Every level starts from the last map of the backbone: transposed convolutions enlarge it, max
    pooling shrinks it, and a 1x1 and a 3x3 convolution, each with LayerNorm, set its width.

    Args:
        in_channels: Width D of the backbone's map.
        out_channels: Width of every level.
        scale_factors: Size of each level relative to the backbone's map, out of 4, 2, 1, 0.5,
            largest first. With patches of 16 pixels the default gives strides 4 to 32.
        num_extra_outs: Levels subsampled from the last one, for the RPN's largest anchors.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale_factors: tuple[float, ...] = (4, 2, 1, 0.5),
        num_extra_outs: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_extra_outs = num_extra_outs
        self.levels = nn.ModuleList()
        for factor in scale_factors:
            resize, width = _resize(in_channels, factor)
            project = nn.Sequential(
                nn.Conv2d(width, out_channels, 1, bias=False),
                _norm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                _norm(out_channels),
            )
            self.levels.append(nn.Sequential(resize, project))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A tuple of one map (B, D, h, w), to the levels (B, out_channels, ...), largest first."""
        (x,) = inputs
        outs = [level(x) for level in self.levels]
        for _ in range(self.num_extra_outs):
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)


def _resize(channels: int, factor: float) -> tuple[nn.Module, int]:
    """The layer that scales a map by `factor`, and the number of channels it leaves."""
    half, quarter = channels // 2, channels // 4
    if factor == 4:
        layers = [_upsample(channels, half), _norm(half), nn.GELU(), _upsample(half, quarter)]
        return nn.Sequential(*layers), quarter
    if factor == 2:
        return _upsample(channels, half), half
    if factor == 1:
        return nn.Identity(), channels
    if factor == 0.5:
        return nn.MaxPool2d(kernel_size=2, stride=2), channels
    raise UserError(f"scale factor {factor} is not one of 4, 2, 1, 0.5")


def _upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _norm(channels: int) -> nn.Module:
    """LayerNorm over the channels, each pixel by itself; as `norm_cfg` it is mmpretrain.LN2d."""
    return LayerNorm2d(channels, eps=1e-6)
