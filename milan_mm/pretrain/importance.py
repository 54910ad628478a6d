"""The importance of patches: where a teacher looks when it makes one vector of an image.

Both functions leave the tokens before the patches out: class token and registers. What they take of
the attention is not handed to the patches, so a row sums to less than 1, and patches compare as
before: the sampling depends on ratios only.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import linear


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
        pool: timm's `AttentionPoolLatent`, as in `PlainViT.attn_pool` (SigLIP, PE).
        x: (B, N, D), its input: all tokens after the final norm.
        num_prefix: Number of tokens before the patches.

    Returns:
        (B, L) float32. A row sums to 1 minus the attention that goes to the prefix tokens.
    """
    dims = x.shape[2]
    # of keys and values, only the keys are computed
    weight, bias = pool.kv.weight[:dims], pool.kv.bias[:dims]
    k = linear(x, weight, bias).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (B, A, N, d)
    q = pool.q(pool.latent).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (1, A, 1, d)
    logits = (pool.q_norm(q) @ pool.k_norm(k).transpose(2, 3)).float() * pool.scale
    return logits.softmax(dim=-1)[:, :, 0, num_prefix:].mean(dim=1)
