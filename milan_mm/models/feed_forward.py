"""The MLP of a transformer block: the output of GELU is not kept for the backward pass."""

from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.recompute import has_hooks, recompute_input

# Of the MLP between its two linear layers, with the name that mmcv builds it by.
ACTIVATIONS = {"GELU": "GELU", "QuickGELU": "mmpretrain.QuickGELU"}


class FeedForward(FFN):
    """Two linear layers, four times as wide inside, without the residual: (B, N, D) to (B, N, D).

    Args:
        embed_dims: Width D.
        act: A key of `ACTIVATIONS`.

    Raises:
        UserError: For an unknown activation.
    """

    def __init__(self, embed_dims: int, act: str = "GELU") -> None:
        if act not in ACTIVATIONS:
            raise UserError(f"act '{act}' is unknown: choose from {sorted(ACTIVATIONS)}")
        act_cfg = dict(type=ACTIVATIONS[act])
        super().__init__(embed_dims, 4 * embed_dims, act_cfg=act_cfg, add_identity=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        if has_hooks(self.layers) or has_hooks(self.layers[0]):
            return self.layers(x)
        (expand, act, inner_dropout), project, dropout = self.layers
        hidden = expand(x)  # (B, N, 4D)
        return dropout(recompute_input(act, lambda acted: project(inner_dropout(acted)), hidden))
