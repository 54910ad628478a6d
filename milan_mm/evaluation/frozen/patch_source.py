"""Patch tokens of labelled images: kept in memory where they fit, else computed in each epoch.

ViT-B/16 gives 196 tokens of 768 numbers for an image, 0.3 MB in float16: 386 GB for ImageNet's
training images, 0.3 GB for the 20,000 of 48 px and patches of 8 px of docs/frozen.md. Without
augmentation both ways give the same numbers.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from mmpretrain.datasets import CustomDataset
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from milan_mm.errors import UserError
from milan_mm.evaluation.features import normalised_batches
from milan_mm.models.plain_vit import PlainViT

KEPT_BYTES = 4 * 2**30


class PatchSource:
    """Gives the patch tokens of images by their numbers.

    Args:
        vit: Frozen, with out_type='raw', on the device.
        dataset: See `read_image_folder`.
        stats: See `stats_text`. amp: Compute in bfloat16.
        batch_size: Images that are encoded at a time. num_workers: See `extract_features`.
        title: Of the progress bar of tokens that are kept.
        kept_bytes: Most memory for tokens.
    """

    def __init__(
        self,
        vit: PlainViT,
        dataset: CustomDataset,
        stats: str,
        amp: bool = False,
        batch_size: int = 64,
        num_workers: int | None = None,
        title: str = "",
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.vit, self.dataset, self.stats, self.amp = vit, dataset, stats, amp
        self.batch_size, self.num_workers, self.title = batch_size, num_workers, title
        size = vit.patch_size
        example = dataset[0]["inputs"]  # (3, H, W)
        num_patches = (example.shape[1] // size) * (example.shape[2] // size)
        values = len(dataset) * num_patches * vit.embed_dims
        self.keeps = values * torch.float16.itemsize <= kept_bytes
        self._shape = len(dataset), num_patches, vit.embed_dims
        self._kept: Tensor | None = None

    def __call__(self, order: Iterable[Tensor]) -> Iterator[Tensor]:
        """The tokens of batches of images.

        Args:
            order: (B,) int64 each, numbers of images.

        Returns:
            (B, L, D) float32 each, on the device, after the final norm.
        """
        order = list(order)
        if not self.keeps:
            yield from self._computed(order)
            return
        if self._kept is None:
            self._kept = torch.empty(self._shape, dtype=torch.float16)
            whole = torch.arange(len(self.dataset)).split(self.batch_size)
            bar = tqdm(whole, desc=self.title, unit=" batches", disable=None)
            for ids, tokens in zip(bar, self._computed(whole), strict=True):
                self._kept[ids[0] : ids[-1] + 1] = tokens.cpu()
        device = next(self.vit.parameters()).device
        for ids in order:
            yield self._kept[ids].to(device).float()

    def _computed(self, order: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same from the images, rounded to float16 as what is kept."""
        order = list(order)
        numbers = list(chain.from_iterable(ids.tolist() for ids in order))
        images = normalised_batches(
            Subset(self.dataset, numbers), self.stats, self.batch_size, self.num_workers
        )
        found = (tokens for imgs in images for tokens in patch_tokens(self.vit, imgs, self.amp))
        for ids in order:
            yield torch.stack([next(found) for _ in ids]).float()


@torch.no_grad()
def patch_tokens(vit: PlainViT, imgs: Tensor, amp: bool) -> Tensor:
    """Tokens of the patches: (B, L, D) float16, after the final norm.

    Args:
        vit: Frozen, with out_type='raw'.
        imgs: (B, 3, H, W) float, normalised, on its device.
        amp: Compute in bfloat16.

    Raises:
        UserError: For numbers that float16 does not hold.
    """
    with torch.autocast(imgs.device.type, torch.bfloat16, enabled=amp):
        (tokens,) = vit(imgs)
    found = tokens[:, vit.num_prefix_tokens :].half()
    if not found.isfinite().all():
        raise UserError(
            "patch tokens are not finite or exceed 65504, the largest number of float16: the "
            "weights are damaged, or the image statistics are not those of the pretraining"
        )
    return found
