"""What every teacher shares: image adaptation, class attention, and the hiding place.

The towers themselves are in `teacher_clip.py` (open_clip) and `teacher_timm.py` (timm, DINO, SLIP).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.registry import MODELS

ASSETS = Path(str(files("milan_mm") / "assets"))

# What a CPU's teacher is shown at once: the maps of more images fall out of the caches. With two
# threads 32 images took 1.30 s, in two halves 1.16 s, and features were the same bit for bit
# (ViT-B/16, bfloat16).
IMAGES_PER_THREAD = 8


class Teacher(nn.Module):
    """A frozen image tower: features of all tokens, and the attention of its class token.

    Args:
        input_stats: `dict(mean, std)` of the images that arrive, in 0-255 RGB.
        stats: `dict(mean, std)` that the teacher is to see. The paper's code shows the teacher the
            student's ImageNet-normalised images, although CLIP was trained with other statistics.
        image_size: (height, width) in pixels that the tower expects; other images are resized.
        grid_size: (h, w) of the tower's patches for such images.
        target_dims: Width C of the features.
        with_cls_token: Whether the tower has a class token, and so an importance of patches.
    """

    compiled_methods = ("look", "attend")  # no gradients: each is one piece

    def __init__(
        self,
        input_stats: dict,
        stats: dict,
        image_size: tuple[int, int],
        grid_size: tuple[int, int],
        target_dims: int,
        with_cls_token: bool,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.grid_size = grid_size
        self.target_dims = target_dims
        self.with_cls_token = with_cls_token
        # x_teacher = (x * input_std + input_mean - mean) / std, as one affine map per channel
        scale = torch.tensor(input_stats["std"]) / torch.tensor(stats["std"])
        mean_gap = torch.tensor(input_stats["mean"]) - torch.tensor(stats["mean"])
        self.same_stats = input_stats == stats
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(3, 1, 1))
        self.register_buffer("shift", (mean_gap / torch.tensor(stats["std"])).view(3, 1, 1))

    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and importance of every patch.

        Args:
            imgs: (B, 3, H, W) float, normalised with `input_stats`.

        Returns:
            features (B, 1+L, C), class token first, or (B, L, C) of a tower without one;
            importance (B, L) float32: attention of the class token to the patches in the last
            layer, averaged over heads (arXiv 2208.06049); None of a tower without class token.
        """
        return self.look(self._adapt(imgs))

    def importance(self, imgs: Tensor) -> Tensor | None:
        """What `forward` says of the patches, without computing features: the last block is spared.

        Args:
            imgs: See `forward`.

        Returns:
            (B, L) float32; None of a tower without class token.
        """
        return self.attend(self._adapt(imgs)) if self.with_cls_token else None

    def look(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """`forward`, after the images were given the statistics and the size of the tower."""
        raise TypeError("use CLIPTeacher or TimmTeacher")

    def attend(self, imgs: Tensor) -> Tensor:
        """`importance`, after the images were given the statistics and the size of the tower."""
        raise TypeError("use CLIPTeacher or TimmTeacher")

    def _adapt(self, imgs: Tensor) -> Tensor:
        if not self.same_stats:
            imgs = imgs * self.scale + self.shift
        if imgs.shape[-2:] != self.image_size:
            imgs = F.interpolate(imgs, self.image_size, mode="bicubic", antialias=True)
        return imgs


def class_attention(q: Tensor, k: Tensor, num_extra: int = 1) -> Tensor:
    """Attention of the class token to the patches, averaged over heads.

    Args:
        q: (B, A, 1, D/A), the query of the class token; no other row is ever computed.
        k: (B, A, N, D/A), the keys of all tokens, extra ones first.
        num_extra: Number of tokens that are no patches: class token, registers.

    Returns:
        (B, L) float32. A row sums to 1 minus the attention that goes to the extra tokens.
    """
    logits = (q @ k.transpose(2, 3)).float() / q.shape[-1] ** 0.5
    return logits.softmax(dim=-1)[:, :, 0, num_extra:].mean(dim=1)


def check_layer_counts(model_name: str, num_layers: int, num_target_layers: int) -> None:
    """Refuse towers that are too shallow, and targets from more layers than there are.

    Raises:
        UserError: Naming the counts.
    """
    if num_layers < 2:
        raise UserError(f"teacher '{model_name}' has {num_layers} block, at least 2 are needed")
    if not 0 < num_target_layers <= num_layers:
        raise UserError(
            f"teacher.num_target_layers is {num_target_layers}, '{model_name}' has {num_layers} "
            f"blocks: choose 1 (the last, as published) to {num_layers}"
        )


def round_matrices(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of what autocast rounds anyway: weights of linear layers and convolutions."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.MultiheadAttention)):
            for parameter in part.parameters(recurse=False):
                if parameter.ndim > 1:
                    parameter.data = parameter.data.to(dtype)


class HiddenTeacher(nn.Module):
    """Keeps a frozen module out of everything that belongs to the student.

    The teacher is no submodule: it has no entry in `parameters()`, so neither in the optimizer nor
    in DDP's buckets, and none in `state_dict()`, so not in checkpoints. It takes no gradient, stays
    in eval mode and runs without a graph. It still follows the student to a device.

    Under autocast its matrices are rounded once and for all, as autocast would round them in every
    step: the results are the same bit for bit, half of its memory is free, and from then on it runs
    in that precision.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        # a tuple hides the module from nn.Module's registration
        self.hidden_modules = (teacher.eval().requires_grad_(False),)
        self._dtype: torch.dtype | None = None  # of its matrices, once they are rounded

    @classmethod
    def build(cls, settings: dict) -> "HiddenTeacher":
        """Hide the teacher of a config; `type` is 'milan_mm.CLIPTeacher' unless it says another."""
        return cls(MODELS.build(dict(type="milan_mm.CLIPTeacher") | settings))

    @property
    def module(self) -> Any:
        """The teacher itself."""
        return self.hidden_modules[0]

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Calls the teacher without building a graph; on CPUs with some images at a time."""
        with self._precision(imgs.device.type):
            features, importance = zip(*map(self.module, _parts(imgs)), strict=True)
        return _joined(features), None if importance[0] is None else _joined(importance)

    @torch.no_grad()
    def importance(self, imgs: Tensor) -> Tensor | None:
        """See `Teacher.importance`; builds no graph."""
        with self._precision(imgs.device.type):
            importance = [self.module.importance(part) for part in _parts(imgs)]
        return None if importance[0] is None else _joined(importance)

    def _precision(self, device: str) -> AbstractContextManager:
        if self._dtype is None and torch.is_autocast_enabled(device):
            self._dtype = torch.get_autocast_dtype(device)
            round_matrices(self.module, self._dtype)
        return torch.autocast(device, self._dtype) if self._dtype else nullcontext()

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        self.module._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _parts(imgs: Tensor) -> Sequence[Tensor]:
    if imgs.device.type != "cpu":
        return [imgs]
    return imgs.split(IMAGES_PER_THREAD * torch.get_num_threads())


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
