"""Which patches the encoder sees."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.randomness import numbers_of_images
from milan_mm.registry import MODELS


class MaskGenerator(nn.Module, ABC):
    """Splits the patches of each image into kept and masked ones; subclasses weight the draw.

    `round(L * (1 - mask_ratio))` patches are drawn without replacement. Within a run the random
    numbers depend on the seed, the update and the image's place in the total batch only: every
    process draws them for the total batch and uses its own rows. So the masks are the same for
    every split of the batch into processes and parts, and a resumed run continues the sequence.

    Args:
        mask_ratio: Share of the patches that is hidden from the encoder, between 0 and 1.
    """

    needs_importance: bool

    def __init__(self, mask_ratio: float) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio {mask_ratio} is outside (0, 1): the paper uses 0.75")
        self.mask_ratio = mask_ratio

    def num_keep(self, num_patches: int) -> int:
        """Number of kept patches; at least one patch is kept and one is masked."""
        num_keep = round(num_patches * (1 - self.mask_ratio))
        if not 0 < num_keep < num_patches:
            raise UserError(
                f"mask_ratio {self.mask_ratio} of {num_patches} patches keeps {num_keep}: "
                f"choose it so that 1 to {num_patches - 1} patches are kept"
            )
        return num_keep

    def forward(
        self, imgs: Tensor, num_patches: int, importance: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Split the patches of each image.

        Args:
            imgs: (B, ...); only the number of images and their device are used.
            num_patches: L of each image.
            importance: (B, L) float >= 0, any scale; None if `needs_importance` is False.

        Returns:
            ids_keep (B, K) and ids_mask (B, M), int64 in [0, L), disjoint; together all patches.
        """
        noise = gumbel_noise(len(imgs), num_patches, imgs.device)
        return split_patches(self._weights(noise, importance), noise, self.num_keep(num_patches))

    @abstractmethod
    def _weights(self, noise: Tensor, importance: Tensor | None) -> Tensor:
        """(B, L) >= 0: how likely each patch is kept."""


@MODELS.register_module()
class SemanticMaskGenerator(MaskGenerator):
    """Keeps patches with probability given by the teacher's class attention.

    Source: arXiv 2208.06049, "semantic aware mask sampling".
    """

    needs_importance = True

    def _weights(self, noise: Tensor, importance: Tensor | None) -> Tensor:
        assert importance is not None
        return importance


@MODELS.register_module()
class UniformMaskGenerator(MaskGenerator):
    """Keeps every patch with equal probability, as MAE does; ignores the importance."""

    needs_importance = False

    def _weights(self, noise: Tensor, importance: Tensor | None) -> Tensor:
        return torch.ones_like(noise)


@MODELS.register_module()
class AllPatches(MaskGenerator):
    """Keeps every patch: distillation without masking, the rival of masked pretraining."""

    needs_importance = False

    def __init__(self) -> None:
        nn.Module.__init__(self)  # a mask ratio of 0 is what the other generators refuse
        self.mask_ratio = 0.0

    def num_keep(self, num_patches: int) -> int:
        """All of them."""
        return num_patches

    def forward(
        self, imgs: Tensor, num_patches: int, importance: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `MaskGenerator.forward`; K is L, in image order, and M is 0."""
        ids = torch.arange(num_patches, device=imgs.device).expand(len(imgs), -1)
        return ids, ids[:, num_patches:]

    def _weights(self, noise: Tensor, importance: Tensor | None) -> Tensor:
        return torch.ones_like(noise)


def gumbel_noise(batch_size: int, num_patches: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise (B, L): the rows of the total batch that this process has now."""
    numbers = numbers_of_images(Tensor.exponential_, batch_size, num_patches, device)
    return -numbers.log()


def split_patches(importance: Tensor, noise: Tensor, num_keep: int) -> tuple[Tensor, Tensor]:
    """Draw `num_keep` patches per image without replacement, likelier where importance is high.

    The largest values of log(importance) + Gumbel noise are distributed as successive draws
    without replacement (Gumbel top-k, arXiv 1903.06059), in one pass without a loop. Zeros are
    raised to the smallest normal number: such patches come last, in random order, so the count is
    exact for any attention.

    Args:
        importance: (B, L) float >= 0, any scale.
        noise: (B, L) float, standard Gumbel.
        num_keep: Number of kept patches, 1 to L-1.

    Returns:
        ids_keep (B, K), most important draws first, and ids_mask (B, M); int64.
    """
    importance = importance.float().clamp_min(torch.finfo(torch.float32).tiny)
    ids = (importance.log() + noise).argsort(dim=1, descending=True)
    return ids[:, :num_keep], ids[:, num_keep:]


def restore(kept: Tensor, masked: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
    """Undo the split: (B, K, D) and (B, M, D) to (B, L, D) in image order."""
    tokens, ids = torch.cat([kept, masked], dim=1), torch.cat([ids_keep, ids_mask], dim=1)
    return torch.empty_like(tokens).scatter(1, ids.unsqueeze(-1).expand_as(tokens), tokens)
