"""Where an attention pooling looks (SigLIP, PE): its learned query attends to the tokens."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def pool_attention(pool: Any, x: Tensor) -> Tensor:
    """Attention of the learned query to each token, in each head.

    Args:
        pool: timm's `AttentionPoolLatent` with one query, as `PlainViT.attn_pool`.
        x: (B, N, D), its input: all tokens after the final norm.

    Returns:
        (B, A, N) float32; the last dimension sums to 1.
    """
    dims = x.shape[2]
    # of keys and values, only the keys are computed
    weight, bias = pool.kv.weight[:dims], pool.kv.bias[:dims]
    k = F.linear(x, weight, bias).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (B, A, N, d)
    q = pool.q(pool.latent).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (1, A, 1, d)
    logits = (pool.q_norm(q) @ pool.k_norm(k).transpose(2, 3)).float() * pool.scale
    return logits.softmax(dim=-1)[:, :, 0]
