"""Target heads: what the decoder's output is compared with, and how.

A head turns images into `(target, importance)` and compares a prediction with the target.
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from milan_mm.pretrain.teacher import CLIPTeacher, HiddenTeacher
from milan_mm.registry import MODELS


@MODELS.register_module()
class CLIPTargetHead(BaseModule):
    """Compares the prediction with CLIP's image features, token by token.

    Args:
        teacher: Arguments of `CLIPTeacher`.
    """

    def __init__(self, teacher: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        clip = CLIPTeacher(**teacher)
        self.teacher = HiddenTeacher(clip)
        self.target_dims = clip.target_dims
        self.grid_size: tuple[int, int] | None = clip.grid_size
        self.gives_importance = True

    def targets(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ask the teacher.

        Args:
            imgs: (B, 3, H, W) float, normalised for the student.

        Returns:
            target (B, 1+L, C) and importance (B, L): the class attention of the last layer.
        """
        return self.teacher(imgs)

    def token_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        """2 - 2 cos of every token, the squared distance of the normalised vectors.

        0 for parallel and 4 for opposite vectors, in float32 whatever the precision of the run.

        Args:
            pred: (B, 1+L, C). target: (B, 1+L, C).

        Returns:
            (B, 1+L) float32.

        Source: arXiv 2208.06049, the reconstruction loss.
        """
        return 2 - 2 * F.cosine_similarity(pred.float(), target.float(), dim=-1)

    def loss(self, pred: Tensor, target: Tensor, ids_mask: Tensor) -> Tensor:
        """Mean over all 1+L tokens: kept, masked and class token alike, as published."""
        return self.token_loss(pred, target).mean()


@MODELS.register_module()
class PixelTargetHead(BaseModule):
    """Compares the prediction of masked patches with their pixels, as MAE does.

    Args:
        patch_size: Side of a patch in pixels.
        norm_pix: Normalise the pixels of each patch to mean 0 and variance 1.
    """

    gives_importance = False
    grid_size = None  # pixels fit any grid

    def __init__(self, patch_size: int, norm_pix: bool, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.patch_size = patch_size
        self.norm_pix = norm_pix
        self.target_dims = 3 * patch_size**2

    def targets(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) to the pixels (B, L, 3*p*p) of each patch; pixels give no importance."""
        p = self.patch_size
        patches = imgs.unflatten(3, (-1, p)).unflatten(2, (-1, p))  # (B, 3, h, p, w, p)
        target = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, L, p*p*3)
        if self.norm_pix:
            target = F.layer_norm(target, target.shape[-1:], eps=1e-6)
        return target, None

    def token_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of every patch; the class token has no pixels.

        Args:
            pred: (B, 1+L, C). target: (B, L, C).

        Returns:
            (B, L) float32.
        """
        return (pred[:, 1:].float() - target.float()).square().mean(dim=-1)

    def loss(self, pred: Tensor, target: Tensor, ids_mask: Tensor) -> Tensor:
        """Mean over the masked patches (ids_mask: (B, M) int64), as in arXiv 2111.06377."""
        return self.token_loss(pred, target).gather(1, ids_mask).mean()
