"""A linear map in the place of a decoder, where the encoder sees every patch."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.block import init_transformer
from milan_mm.registry import MODELS


@MODELS.register_module()
class LinearDecoder(BaseModule):
    """Predicts each token's target from the encoder's output for that token alone.

    With `AllPatches` this is plain feature distillation: nothing is hidden, and nothing but a
    linear map stands between encoder and target.

    Args:
        embed_dims: Encoder width D.
        grid_size: (h, w) of the patch grid.
        target_dims: Width C of the target.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        target_dims: int,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims
        self.grid_size = (grid_size[0], grid_size[1])
        self.target_dims = target_dims
        self.decoder_pred = nn.Linear(embed_dims, target_dims)
        self.apply(init_transformer)

    def forward(self, latent: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """Predict a target for every token.

        Args:
            latent: (B, 1+L, D) float, encoder output of all patches in image order, class token
                first.
            ids_keep: (B, L) int64. ids_mask: (B, 0) int64.

        Returns:
            (B, 1+L, C) float in image order.

        Raises:
            UserError: When patches are hidden, for which there is nothing to predict from.
        """
        if ids_mask.shape[1]:
            raise UserError(
                f"{ids_mask.shape[1]} patches are hidden, LinearDecoder predicts what the encoder "
                "sees: use it with milan_mm.AllPatches, or another decoder"
            )
        return self.decoder_pred(latent)
