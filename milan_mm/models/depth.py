"""Depth from a linear layer on frozen features: the head, and the loss it is trained by.

mmseg has one depth head, VPD's, which is a decoder for the maps of a diffusion model, and a loss
with another weight of the mean; neither can be set to the linear protocol of DINOv2 and DINOv3.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.registry import MODELS

FLOOR = 0.1  # of each bin's weight before normalisation (AdaBins, arXiv 2011.14141)


@MODELS.register_module()
class LinearDepthHead(BaseModule):
    """One 1x1 convolution to weights of depth bins; the depth is their weighted mean.

    Weights are ReLU(x) + 0.1, divided by their sum, and the bins are spread evenly: DINOv2's linear
    depth head (arXiv 2304.07193), and DINOv3's (arXiv 2508.10104). It is a `decode_head` of mmseg's
    `DepthEstimator`, and imports nothing of mmseg, which takes seconds.

    Args:
        in_channels: Channels D of the map.
        num_bins: Output channels of the layer.
        min_depth, max_depth: First and last bin, in metres.
        loss_decode: Of a loss that takes depths (B, 1, H, W), predicted and true.

    Raises:
        UserError: For bounds or a number of bins that make no depth.
    """

    num_classes = out_channels = 1  # of the prediction, as `DepthEstimator` asks
    align_corners = False

    def __init__(
        self,
        in_channels: int,
        num_bins: int = 256,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        loss_decode: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if num_bins < 2 or not 0 < min_depth < max_depth:
            raise UserError(
                f"num_bins {num_bins} between min_depth {min_depth} and max_depth {max_depth}: "
                "give 2 bins or more, and depths above 0 in this order"
            )
        super().__init__(init_cfg or dict(type="Normal", layer="Conv2d", std=0.01))
        self.conv_depth = nn.Conv2d(in_channels, num_bins, 1)
        self.loss_decode = MODELS.build(loss_decode or dict(type="milan_mm.ScaleInvariantLoss"))
        bins = torch.linspace(min_depth, max_depth, num_bins)[:, None, None]
        self.register_buffer("bins", bins, persistent=False)  # (N, 1, 1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The last of some maps (B, D, h, w), to depths (B, 1, h, w) float32 in metres."""
        weights = self.conv_depth(inputs[-1]).float().relu() + FLOOR  # (B, N, h, w)
        return (weights * self.bins).sum(1, keepdim=True) / weights.sum(1, keepdim=True)

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: Sequence[BaseDataElement], _: Any
    ) -> dict[str, Tensor]:
        """The loss of the depths, enlarged to the size of the true ones.

        Args:
            inputs: See `forward`.
            batch_data_samples: With `gt_depth_map` (1, H, W) in metres, 0 where none was measured.
        """
        target = torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])
        pred = _resize(self(inputs), target.shape[2:])
        return {self.loss_decode.loss_name: self.loss_decode(pred, target)}

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], _: Any) -> Tensor:
        """Depths (B, 1, H, W) at the size of the image, or of the window of a slide."""
        meta = batch_img_metas[0]
        in_window = isinstance(meta["img_shape"], torch.Size)  # mmseg's mark of a slide
        size = meta["img_shape"] if in_window else meta.get("pad_shape", meta["img_shape"])
        return _resize(self(inputs), tuple(size)[:2])


def _resize(depth: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(depth, tuple(size), mode="bilinear", align_corners=False)


@MODELS.register_module()
class ScaleInvariantLoss(nn.Module):
    """The loss "SigLoss" of DINOv2 and DINOv3, after arXiv 1406.2283.

    With g = log(predicted) - log(true) over the pixels that have a depth, it is the root of
    var(g) + `mean_weight` * mean(g)^2.

    Args:
        mean_weight: 0 would forgive any common factor.
        eps: Added to depths before the logarithm, in metres.
        num_images: Images whose pixels are taken together; the loss is the mean over such groups.
            The published runs have two images on each GPU, and so two here: other splits of the
            total batch give the same loss, as long as they are even.
        loss_weight: Factor on the loss.
        loss_name: In the log; begins with 'loss'.
    """

    def __init__(
        self,
        mean_weight: float = 0.15,
        eps: float = 1e-3,
        num_images: int = 2,
        loss_weight: float = 1.0,
        loss_name: str = "loss_depth",
    ) -> None:
        super().__init__()
        self.mean_weight, self.eps, self.num_images = mean_weight, eps, num_images
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compare depths.

        Args:
            pred: (B, 1, H, W) float, above 0.
            target: The same shape; 0 where no depth was measured.

        Returns:
            A scalar; groups without any depth add 0.
        """
        pairs = zip(pred.split(self.num_images), target.split(self.num_images), strict=True)
        losses = [self._of_group(*pair) for pair in pairs]
        return self.loss_weight * torch.stack(losses).mean()

    def _of_group(self, pred: Tensor, target: Tensor) -> Tensor:
        valid = target > 0
        gap = torch.where(valid, (pred + self.eps).log() - (target + self.eps).log(), 0.0)
        count = valid.sum().clamp(min=1)  # not read: nothing here waits for the GPU
        mean = gap.sum() / count
        squares = torch.where(valid, gap - mean, 0.0).square().sum()
        variance = squares / (count - 1).clamp(min=1)
        # a perfect prediction has no slope, where the root alone would have an endless one
        return (variance + self.mean_weight * mean.square()).clamp(min=1e-12).sqrt()
