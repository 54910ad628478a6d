"""Target heads: what the decoder's output is compared with, how, and on which tokens.

A head turns images into `(target, importance)` and compares a prediction with the target.
"""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.patches import patchify, unpatchify
from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.registry import MODELS


class TargetHead(BaseModule):
    """What the heads share: the teacher, and which tokens count in the loss.

    Args:
        loss_tokens: 'all' tokens that have a target, or the 'masked' patches only.
        teacher: Config of a teacher, `CLIPTeacher` unless it has another `type`; None for none.
    """

    LOSS_TOKENS = ("all", "masked")
    target_dims: int
    loss_name: str  # formula of `token_loss`, for pictures

    compiled_methods = ("loss",)

    def __init__(
        self, loss_tokens: str, teacher: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if loss_tokens not in self.LOSS_TOKENS:
            raise UserError(
                f"loss_tokens '{loss_tokens}' is unknown: choose from {self.LOSS_TOKENS}"
            )
        self.loss_tokens = loss_tokens
        self.teacher: Any = HiddenTeacher.build(teacher) if teacher else None

    @property
    def grid_size(self) -> tuple[int, int] | None:
        """(h, w) of the teacher's patches; None without a teacher: pixels fit any grid."""
        return self.teacher.module.grid_size if self.teacher else None

    @property
    def gives_importance(self) -> bool:
        """Whether `targets` returns the importance of patches."""
        return self.teacher is not None and self.teacher.module.importance_from is not None

    @abstractmethod
    def targets(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Make the targets from the teacher's answer or from the pixels.

        Args:
            imgs: (B, 3, H, W) float, normalised for the student.

        Returns:
            target (B, 1+L, C), or (B, L, C) if there is none for the class token; importance
            (B, L): where the teacher looks, see `Teacher.forward`; None if `gives_importance` is
            False.
        """

    @abstractmethod
    def token_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compare the prediction (B, 1+L, C) with the target, token by token.

        Returns:
            One float32 per token of the target: (B, 1+L) or (B, L).
        """

    def picture(self, pred: Tensor, imgs: Tensor) -> Tensor | None:
        """The image that a prediction (B, 1+L, C) stands for; None if the target is not pixels.

        Args:
            imgs: See `targets`.

        Returns:
            (B, 3, H, W) float, normalised for the student.
        """
        return None

    def loss(self, pred: Tensor, target: Tensor, ids_mask: Tensor) -> Tensor:
        """Mean of `token_loss` over the tokens that count.

        Args:
            pred: (B, 1+L, C). target: See `targets`. ids_mask: (B, M) int64.
        """
        losses = self.token_loss(pred, target)
        if self.loss_tokens == "masked":
            num_patches = pred.shape[1] - 1
            losses = losses[:, -num_patches:].gather(1, ids_mask)  # (B, M)
        return losses.mean()


@MODELS.register_module()
class CLIPTargetHead(TargetHead):
    """Compares the prediction with the features of CLIP, or of another teacher.

    Args:
        teacher: Config of a teacher; see `TargetHead`.
        loss_tokens: The published method counts 'all' 1+L tokens: kept, masked and class token.
    """

    loss_name = "2 - 2 cos(prediction, target)"

    def __init__(
        self, teacher: dict, loss_tokens: str = "all", init_cfg: dict | None = None
    ) -> None:
        super().__init__(loss_tokens, teacher, init_cfg)
        self.target_dims = self.teacher.module.target_dims

    def targets(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `TargetHead.targets`: the teacher's features."""
        return self.teacher(imgs)

    def token_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        """2 - 2 cos of every token, the squared distance of the normalised vectors.

        0 for parallel and 4 for opposite vectors, in float32 whatever the precision of the run.

        Args:
            pred: (B, 1+L, C).
            target: (B, 1+L, C); (B, L, C) of a teacher without class token.

        Returns:
            (B, 1+L) or (B, L) float32.

        Source: arXiv 2208.06049, the reconstruction loss.
        """
        pred = pred[:, -target.shape[1] :]
        return 2 - 2 * F.cosine_similarity(pred.float(), target.float(), dim=-1)


@MODELS.register_module()
class PixelTargetHead(TargetHead):
    """Compares the prediction with the pixels of the patches, as MAE does (arXiv 2111.06377).

    Args:
        patch_size: Side of a patch in pixels.
        norm_pix: Normalise the pixels of each patch to mean 0 and variance 1, the unbiased one.
        loss_tokens: MAE counts the 'masked' patches.
        teacher: Provides only the importance of patches, for semantic-aware sampling; see
            `TargetHead`.
    """

    loss_name = "mean squared error"

    def __init__(
        self,
        patch_size: int,
        norm_pix: bool,
        loss_tokens: str = "masked",
        teacher: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(loss_tokens, teacher, init_cfg)
        if teacher and (layers := teacher.get("num_target_layers", 1)) != 1:
            raise UserError(
                f"teacher.num_target_layers={layers} chooses the layers of the target, but the "
                "target is pixels: remove it"
            )
        self.patch_size = patch_size
        self.norm_pix = norm_pix
        self.target_dims = 3 * patch_size**2

    def targets(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `TargetHead.targets`: the pixels (B, L, p*p*3) of each patch."""
        target = self._pixels(imgs)
        if self.norm_pix:
            mean, std = _mean_and_std(target)
            target = (target - mean) / std
        return target, self.teacher.importance(imgs) if self.teacher else None

    def picture(self, pred: Tensor, imgs: Tensor) -> Tensor:
        """See `TargetHead.picture`; brightness and contrast of a patch are those of `imgs`."""
        pixels = pred[:, 1:].float()
        if self.norm_pix:
            mean, std = _mean_and_std(self._pixels(imgs))
            pixels = pixels * std + mean
        grid = [side // self.patch_size for side in imgs.shape[2:]]
        patches = pixels.unflatten(2, (-1, 3)).mT.flatten(2).unflatten(1, grid)
        return unpatchify(patches, self.patch_size)

    def _pixels(self, imgs: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, L, p*p*3)."""
        patches = patchify(imgs, self.patch_size).flatten(1, 2)  # (B, L, 3*p*p)
        return patches.unflatten(2, (3, -1)).mT.flatten(2)

    def token_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of every patch; the class token has no pixels.

        Args:
            pred: (B, 1+L, C). target: (B, L, C).

        Returns:
            (B, L) float32.
        """
        return (pred[:, 1:].float() - target.float()).square().mean(dim=-1)


def _mean_and_std(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each patch (B, L, 1), the variance unbiased as MAE's."""
    var, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
    return mean, (var + 1e-6).sqrt()
