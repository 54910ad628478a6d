"""The federated loss: binary cross entropy of those classes of which a batch may know something."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.registry import MODELS


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Sigmoid loss of a box head over the classes of the batch and some drawn ones.

    In LVIS an image is annotated for some of its 1203 categories only, so what is not annotated is
    not absent. The loss counts the classes that the regions of the batch have, and others up to
    `num_drawn`, drawn without replacement with a chance that grows with the images of a class. The
    rest gets no gradient. As in detectron2 (`use_fed_loss`, from CenterNet2), summed over classes
    and averaged over regions.

    `ClassCountsHook` counts the images of each class before a training; checkpoints keep them.

    Args:
        num_classes: K, without background: the head has no output for it.
        num_drawn: Classes that count at least, if there are as many.
        power: Of the number of images, for the chance to be drawn.
        loss_weight: Factor of the loss.
    """

    # what mmdet's box heads ask for: their outputs, scores and accuracy come from here
    custom_cls_channels = custom_activation = custom_accuracy = True
    image_counts: Tensor

    def __init__(
        self,
        num_classes: int,
        num_drawn: int = 50,
        power: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_drawn = num_drawn
        self.power = power
        self.loss_weight = loss_weight
        self.register_buffer("image_counts", torch.zeros(num_classes))

    def set_image_counts(self, counts: Tensor) -> None:
        """Say how many images have each class. counts: (K,)

        Raises:
            UserError: For another number of classes.
        """
        if len(counts) != self.num_classes:
            raise UserError(
                f"the data have {len(counts)} classes and FederatedLoss.num_classes="
                f"{self.num_classes}: set both to the same number"
            )
        self.image_counts.copy_(counts)

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            cls_score: (N, K) logits of N regions.
            label: (N,) int64 from 0 to K, which is the background.
            weight: (N,) of the regions.
            avg_factor: Divides the sum; None takes N.
            reduction_override: None, 'mean' or 'sum'; 'sum' does not divide.
        """
        target = F.one_hot(label, self.num_classes + 1)[:, :-1].to(cls_score)
        counted = self.counted_classes(label)
        loss = F.binary_cross_entropy_with_logits(cls_score, target, reduction="none") * counted
        if weight is not None:
            loss = loss * weight[:, None]
        total = loss.sum() * self.loss_weight
        return total if reduction_override == "sum" else total / (avg_factor or max(len(label), 1))

    @torch.no_grad()
    def counted_classes(self, label: Tensor) -> Tensor:
        """(K,), 1 for each class of the labels (N,) and for those that are drawn, else 0."""
        # the background is one of the labels that fill the places, as in the source
        present = torch.bincount(label, minlength=self.num_classes + 1) > 0
        counted = present[:-1].float()
        chances = self.image_counts.to(counted) ** self.power * (1 - counted)
        # Gumbel's trick, which needs no number on the host: the largest of log(chance) plus noise
        keys = chances.log() - torch.empty_like(chances).exponential_().log()
        places = min(self.num_drawn, self.num_classes)
        best = keys.topk(places)
        is_drawn = torch.arange(places, device=label.device) < self.num_drawn - present.sum()
        return counted.scatter(0, best.indices, (is_drawn & best.values.isfinite()).float()).max(
            counted
        )

    def get_cls_channels(self, num_classes: int) -> int:
        """Outputs of the head for `num_classes`."""
        return num_classes

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Logits (N, K) to scores (N, K + 1) from 0 to 1, the last, of the background, 0."""
        return F.pad(cls_score.sigmoid(), (0, 1))

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Share of regions on objects, in %, whose class has the highest score."""
        on_object = labels < self.num_classes
        right = (cls_score.argmax(dim=1) == labels) & on_object
        return dict(acc_classes=100 * right.sum() / on_object.sum().clamp(min=1))
