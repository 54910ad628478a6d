"""The teacher: a frozen `PlainViT`, what it returns for an image, and how it is kept out of the
module tree.

`teacher_clip.py` (open_clip) and `teacher_timm.py` (timm, DINO, SLIP) fetch its weights, and
`tower.py` makes them those of a `PlainViT`. `teacher_encoder.py` takes any file that `--weights`
takes. `importance.py` is what each of them says of the patches.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.plain_vit import PlainViT
from milan_mm.pretrain.importance import class_attention, pool_attention
from milan_mm.registry import MODELS

# Images per thread and pass on CPUs: the maps of larger batches overflow the caches.
IMAGES_PER_THREAD = 8


class Builder(Protocol):
    """What makes a teacher's `PlainViT`, e.g. a `Tower`.

    Attributes:
        projection: (D, C) that follows the final norm; None for none.
    """

    projection: Tensor | None

    def build(self, grid_size: tuple[int, int] | None = None) -> PlainViT:
        """The encoder with its weights, its position table resized to a grid (h, w)."""
        ...


class Teacher(nn.Module):
    """Features of all tokens, and the importance of the patches, of a pretrained `PlainViT`.

    Args:
        model_name: Name of the architecture, for error messages.
        tower: The pretrained image tower.
        input_stats: `dict(mean, std)` of the images that arrive, in 0-255 RGB.
        stats: `dict(mean, std)` that the teacher is to see. The paper's code shows the teacher the
            student's ImageNet-normalised images, although CLIP was trained with other statistics.
        grid_size: (h, w) of the student's patches. Images are resized to `grid_size` times the
            teacher's patch size, and its position table to `grid_size`, so that a teacher of any
            patch size looks at the student's patches. None takes the tower's own grid.
        num_target_layers: The target is the mean over that many last layers, each after the final
            norm; 1, the last layer alone, is the published method.

    Attributes:
        vit: The encoder.
        projection: To the space that image and text share; the identity where there is none.
        image_size: (height, width) in pixels that images are resized to.
        grid_size: (h, w) of the patches of such images.
        target_dims: Width C of the features.
        with_cls_token: Whether the tower has a class token, and so features for the student's.
        importance_from: 'cls' for the attention of the class token in the last block, 'pool' for
            that of the attention pooling, None without an importance of patches.

    Raises:
        UserError: When the tower has too few blocks, or its weights do not fit.
    """

    compiled_methods = ("encode", "class_attention")  # no gradients: each is one piece

    def __init__(
        self,
        model_name: str,
        tower: Builder,
        input_stats: dict,
        stats: dict,
        grid_size: tuple[int, int] | None = None,
        num_target_layers: int = 1,
    ) -> None:
        super().__init__()
        self.vit: PlainViT = tower.build(grid_size)
        _check_layer_counts(model_name, self.vit.num_layers, num_target_layers)
        self.projection: nn.Module = nn.Identity()
        self.target_dims = self.vit.embed_dims
        if tower.projection is not None:
            self.projection = _linear(tower.projection)
            self.target_dims = tower.projection.shape[1]
        self.num_target_layers = num_target_layers
        self.with_cls_token = self.vit.with_cls_token
        self.importance_from: str | None = "cls" if self.with_cls_token else None
        self.grid_size = self.vit.grid_size
        height, width = (n * self.vit.patch_size for n in self.grid_size)
        self.image_size = (height, width)
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
            layer, averaged over heads (arXiv 2208.06049), see `importance_from`; None without one.
        """
        return self.encode(self._adapt(imgs))

    def importance(self, imgs: Tensor) -> Tensor | None:
        """The importance that `forward` returns, without features.

        The last block is not run for that of the class token.

        Args:
            imgs: See `forward`.

        Returns:
            (B, L) float32; None where `importance_from` is None.
        """
        return self.class_attention(self._adapt(imgs)) if self.importance_from else None

    def encode(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """`forward`, of images in the statistics and the size of the tower."""
        vit, num_prefix = self.vit, self.vit.num_prefix_tokens
        count = max(self.num_target_layers, 2)
        blocks = range(vit.num_layers - count, vit.num_layers)
        tokens = list(vit.tokens_after(imgs, blocks).values())
        last = [vit.ln1(x) for x in tokens[-self.num_target_layers :]]
        mean = torch.stack(last).mean(dim=0) if len(last) > 1 else last[0]
        features = self.projection(mean)  # (B, [1+][R+]L, C)
        importance = None
        if self.importance_from == "cls":
            importance = self._class_attention(tokens[-2], imgs)
        elif self.importance_from:
            importance = pool_attention(vit.attn_pool, last[-1], num_prefix)
        if not self.with_cls_token:
            return features[:, num_prefix:], importance
        if num_prefix > 1:
            features = torch.cat([features[:, :1], features[:, num_prefix:]], dim=1)
        return features, importance

    def class_attention(self, imgs: Tensor) -> Tensor:
        """`importance`, of images in the statistics and the size of the tower."""
        vit, last = self.vit, self.vit.num_layers - 1
        if self.importance_from == "pool":
            tokens = vit.ln1(vit.tokens_after(imgs, [last])[last])
            return pool_attention(vit.attn_pool, tokens, vit.num_prefix_tokens)
        return self._class_attention(vit.tokens_after(imgs, [last - 1])[last - 1], imgs)

    def _class_attention(self, tokens: Tensor, imgs: Tensor) -> Tensor:
        """Of the tokens before the last block."""
        vit = self.vit
        grid = vit.grid_of(imgs)
        return class_attention(
            vit.layers[-1], tokens, vit.num_prefix_tokens, grid, vit.rotary(grid)
        )

    def _adapt(self, imgs: Tensor) -> Tensor:
        if not self.same_stats:
            imgs = imgs * self.scale + self.shift
        if imgs.shape[-2:] != self.image_size:
            imgs = F.interpolate(imgs, self.image_size, mode="bicubic", antialias=True)
        return imgs


def _check_layer_counts(model_name: str, num_layers: int, num_target_layers: int) -> None:
    if num_layers < 2:
        raise UserError(
            f"teacher '{model_name}' has {num_layers} block, at least 2 are needed: choose another"
        )
    if not 0 < num_target_layers <= num_layers:
        raise UserError(
            f"teacher.num_target_layers is {num_target_layers}, '{model_name}' has {num_layers} "
            f"blocks: choose 1 (the last, as published) to {num_layers}"
        )


def _linear(matrix: Tensor) -> nn.Linear:
    """x @ matrix, of (D, C), as a layer."""
    width, dims = matrix.shape
    linear = nn.Linear(width, dims, bias=False, device="meta")  # no random start
    linear.load_state_dict(dict(weight=matrix.T), assign=True)
    return linear


def round_matrices(module: nn.Module, dtype: torch.dtype) -> None:
    """Round what autocast would round anyway: the weights of linear layers and convolutions."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            part.weight.data = part.weight.data.to(dtype)


class HiddenTeacher(nn.Module):
    """Keeps a frozen module out of everything that belongs to the student.

    The teacher is not a submodule. So it has no entry in `parameters()` (optimizer, DDP's buckets)
    or in `state_dict()` (checkpoints). It takes no gradient, stays in eval mode and runs without a
    graph. It still follows the student to a device.

    In the first step under autocast its matrices are rounded, as autocast would round them in every
    step. Results are the same bit for bit, its memory is halved, and it stays in that precision.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        # a tuple hides the module from nn.Module's registration
        self.hidden_modules = (teacher.eval().requires_grad_(False),)
        self._dtype: torch.dtype | None = None  # of its matrices, once they are rounded

    @classmethod
    def build(cls, settings: dict) -> "HiddenTeacher":
        """Hide the teacher of a config, whose `type` is 'milan_mm.CLIPTeacher' by default."""
        return cls(MODELS.build(dict(type="milan_mm.CLIPTeacher") | settings))

    @property
    def module(self) -> Any:
        """The teacher itself."""
        return self.hidden_modules[0]

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Call the teacher without a graph; on CPUs with `IMAGES_PER_THREAD` images per pass."""
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
