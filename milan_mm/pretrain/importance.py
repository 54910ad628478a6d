"""The importance of patches: where a teacher looks when it makes one vector of an image.

Both functions leave the tokens before the patches out: class token and registers. What they take of
the attention is not handed to the patches, so a row sums to less than 1, and patches compare as
before: the sampling depends on ratios only.
"""

from typing import Any

from torch import Tensor

from milan_mm.models.pooling import pool_attention as attention_of_pool


def class_attention(
    block: Any,
    x: Tensor,
    num_prefix: int,
    grid: tuple[int, int] | None = None,
    rope: Tensor | None = None,
) -> Tensor:
    """Attention of the class token to the patches in a block, averaged over heads.

    Args:
        block: An `EncoderLayer`.
        x: (B, N, D), its input, class token first.
        num_prefix: Number of tokens before the patches: class token and registers.
        grid: (h, w) of the patches. rope: Their rotary positions; see `SelfAttention`.

    Returns:
        (B, L) float32. A row sums to 1 minus the attention that goes to the prefix tokens.
    """
    return block.attn.class_attention(block.ln1(x), grid, rope)[:, :, num_prefix:].mean(dim=1)


def pool_attention(pool: Any, x: Tensor, num_prefix: int) -> Tensor:
    """Attention of the learned query of an attention pooling to the patches, averaged over heads.

    Args:
        pool, x: See `models.pooling.pool_attention`.
        num_prefix: Number of tokens before the patches.

    Returns:
        (B, L) float32. A row sums to 1 minus the attention that goes to the prefix tokens.
    """
    return attention_of_pool(pool, x)[:, :, num_prefix:].mean(dim=1)
