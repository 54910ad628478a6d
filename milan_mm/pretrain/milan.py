"""The MILAN algorithm. Read this first: the whole training step is `MILAN.loss`."""

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.pretrain.decoder import PretrainDecoder
from milan_mm.pretrain.masking import MaskGenerator
from milan_mm.registry import MODELS


@MODELS.register_module()
class MILAN(BaseSelfSupervisor):
    """Masked image pretraining on language-assisted representation (arXiv 2208.06049).

    Args:
        backbone: The encoder, a `PlainViT`.
        mask_generator: Chooses the kept patches, e.g. `SemanticMaskGenerator`.
        decoder: Predicts a target for every token, e.g. `PromptingDecoder`.
        head: Makes the target and compares, e.g. `CLIPTargetHead`.
        data_preprocessor: mmpretrain's `SelfSupDataPreprocessor` with the student's statistics.

    Raises:
        UserError: When the four parts disagree on the patch grid or on a width.
    """

    def __init__(
        self,
        backbone: dict,
        mask_generator: dict,
        decoder: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone, head=head, data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        self.mask_generator: MaskGenerator = MODELS.build(mask_generator)
        self.decoder: PretrainDecoder = MODELS.build(decoder)
        self._check_parts()

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """One training step: hide patches, encode the rest, predict all, compare.

        Args:
            inputs: (B, 3, H, W) float, normalised.
            data_samples: Unused, there are no labels.
        """
        self._check_input(inputs)
        target, importance = self.head.targets(inputs)  # (B, 1+L, C), (B, L)
        num_patches = self.backbone.num_patches
        ids_keep, ids_mask = self.mask_generator(inputs, num_patches, importance)  # (B, K), (B, M)
        latent = self.encode_kept(inputs, ids_keep)  # (B, 1+K, D)
        pred = self.decoder(latent, ids_keep, ids_mask)  # (B, 1+L, C)
        return dict(loss=self.head.loss(pred, target, ids_mask))

    def encode_kept(self, inputs: Tensor, ids_keep: Tensor) -> Tensor:
        """What the decoder gets of images: class token and kept patches, no registers.

        Args:
            inputs: (B, 3, H, W) float, normalised.
            ids_keep: (B, K) int64.

        Returns:
            (B, 1+K, D) float.
        """
        tokens = self.backbone.embed(inputs, ids_keep)  # (B, K, D)
        latent = self.backbone.encode(tokens, ids_keep)  # (B, 1+R+K, D)
        num_prefix = self.backbone.num_prefix_tokens
        if num_prefix == 1:
            return latent
        return torch.cat([latent[:, :1], latent[:, num_prefix:]], dim=1)

    def _check_input(self, inputs: Tensor) -> None:
        height, width = (n * self.backbone.patch_size for n in self.backbone.grid_size)
        if inputs.shape[-2:] != (height, width):
            raise UserError(
                f"got images of {inputs.shape[-2]}x{inputs.shape[-1]} pixels, but "
                f"backbone.img_size is {height}x{width}: change one of the two (the crop of the "
                "data pipeline, or backbone.img_size with decoder.grid_size)"
            )

    def _check_parts(self) -> None:
        backbone, decoder, head = self.backbone, self.decoder, self.head
        self.mask_generator.num_keep(backbone.num_patches)
        if not backbone.with_cls_token:
            raise UserError("pretraining needs backbone.with_cls_token=True")
        if backbone.options.needs_grid:
            raise UserError(
                "pretraining cannot go with windows or relative positions, which need all patches "
                "of an image: leave out backbone.window_size, rel_pos_grid and rel_pos_bias_grid"
            )
        if decoder.embed_dims != backbone.embed_dims:
            raise UserError(
                f"decoder.embed_dims is {decoder.embed_dims}, the backbone's width is "
                f"{backbone.embed_dims}: set decoder.embed_dims={backbone.embed_dims}"
            )
        if decoder.grid_size != backbone.grid_size:
            raise UserError(
                f"decoder.grid_size is {decoder.grid_size}, the backbone's grid is "
                f"{backbone.grid_size}: set decoder.grid_size={backbone.grid_size}"
            )
        if head.grid_size not in (None, backbone.grid_size):
            raise UserError(
                f"the teacher's patch grid is {head.grid_size}, the backbone's is "
                f"{backbone.grid_size}: set head.teacher.grid_size={backbone.grid_size}, so that "
                "the teacher sees images resized to that grid"
            )
        if getattr(head, "patch_size", backbone.patch_size) != backbone.patch_size:
            raise UserError(
                f"head.patch_size is {head.patch_size}, the backbone's is {backbone.patch_size}: "
                f"set head.patch_size={backbone.patch_size}"
            )
        if decoder.target_dims != head.target_dims:
            raise UserError(
                f"decoder.target_dims is {decoder.target_dims}, the head's target is "
                f"{head.target_dims} wide: set decoder.target_dims={head.target_dims}"
            )
        if self.mask_generator.needs_importance and not head.gives_importance:
            reason = "it has no teacher"
            if head.teacher:
                reason = "its teacher has neither a class token nor an attention pooling"
            raise UserError(
                f"{type(self.mask_generator).__name__} needs the importance of patches, which "
                f"{type(head).__name__} does not give because {reason}: set head.teacher to a ViT "
                "with one of them (SigLIP as a milan_mm.EncoderTeacher), or use "
                "UniformMaskGenerator"
            )
