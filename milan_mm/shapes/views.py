"""What SLIP adds to CLIP: two views of an image, a projector, and SimCLR's loss between them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MLP
from torchvision.transforms import v2


def view_pairs(images: Tensor) -> Tensor:
    """Two random views of every image, of the size of the images.

    Milder than SimCLR's, because the captions name colours, sizes and shapes: hue stays untouched
    and nothing turns grey, no crop is stretched, and none magnifies small objects (up to 22 pixels)
    to the size of large ones (from 30).

    Args:
        images: (B, 3, H, W) uint8, 0-255. Random numbers come from torch's global generator.

    Returns:
        (2B, 3, H, W) uint8: the first views of all images, then the second ones.
    """
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(images.shape[-2:], scale=(0.6, 1.0), ratio=(1.0, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )
    # one by one: a transform draws its numbers once per call, for a whole batch alike
    return torch.stack([augment(image) for _ in range(2) for image in images])


def make_projector(embed_dims: int) -> nn.Module:
    """Three layers with batch norm, as in SLIP (arXiv 2112.12750); there 4096 wide, to 256."""
    return MLP(embed_dims, [4 * embed_dims, 4 * embed_dims, embed_dims], norm_layer=nn.BatchNorm1d)


def simclr_loss(views: Tensor, temperature: float = 0.1) -> Tensor:
    """Every view has to find its partner among all other views of the batch.

    Args:
        views: (2B, C) float, any length; row i and row B+i come from one image.
        temperature: Of the softmax; 0.1 in SLIP.

    Returns:
        Scalar, the mean of the 2B cross entropies.

    Source: SimCLR (arXiv 2002.05709), equation 1.
    """
    views = F.normalize(views, dim=1)
    logits = views @ views.T / temperature  # (2B, 2B)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partners = torch.arange(len(views), device=views.device).roll(len(views) // 2)
    return F.cross_entropy(logits.masked_fill(itself, float("-inf")), partners)
