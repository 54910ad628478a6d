"""The frozen teacher: CLIP's image tower from open_clip, its features and its class attention."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from milan_mm.weights.reading import read_checkpoint

ASSETS = Path(str(files("milan_mm") / "assets"))
SHIPPED = {"shapes-clip": ASSETS / "shapes_clip.safetensors"}
open_clip.add_model_config(ASSETS)


class CLIPTeacher(nn.Module):
    """open_clip's image tower. The text tower is dropped as soon as the weights are checked.

    Args:
        model_name: An architecture of open_clip, e.g. 'ViT-B-16-quickgelu'; `shapes-clip` is the
            tiny CLIP that this package ships.
        pretrained: A tag of open_clip ('openai'), a local file (safetensors, or a torch file
            without pickled code), 'shipped', or 'random' for trials of speed and plumbing.
        input_stats: `dict(mean, std)` of the images that arrive, in 0-255 RGB.
        stats: `dict(mean, std)` that the teacher is to see. The paper's code shows the teacher the
            student's ImageNet-normalised images, although CLIP was trained with other statistics.
        image_size: Input side in pixels; None takes the tower's own.

    Raises:
        ValueError: When weights are missing or do not belong to the architecture.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: str,
        input_stats: dict,
        stats: dict,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        visual: Any = _create_clip(model_name, pretrained, image_size).visual
        _check_tower(model_name, visual)
        self.visual: Any = visual
        self.grid_size: tuple[int, int] = tuple(visual.grid_size)
        self.target_dims: int = visual.output_dim
        # x_teacher = (x * input_std + input_mean - mean) / std, as one affine map per channel
        scale = torch.tensor(input_stats["std"]) / torch.tensor(stats["std"])
        mean_gap = torch.tensor(input_stats["mean"]) - torch.tensor(stats["mean"])
        self.same_stats = input_stats == stats
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(3, 1, 1))
        self.register_buffer("shift", (mean_gap / torch.tensor(stats["std"])).view(3, 1, 1))

    def forward(self, imgs: Tensor) -> tuple[Tensor, Tensor]:
        """Features and importance of every patch.

        Args:
            imgs: (B, 3, H, W) float, normalised with `input_stats`.

        Returns:
            features (B, 1+L, C): the last layer after `ln_post` and projection, class token first;
            importance (B, L) float32: attention of the class token to the patches in the last
            layer, averaged over heads (arXiv 2208.06049).
        """
        if not self.same_stats:
            imgs = imgs * self.scale + self.shift
        visual = self.visual
        num_layers = len(visual.transformer.resblocks)
        out = visual.forward_intermediates(
            imgs,
            indices=[num_layers - 2, num_layers - 1],
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        before_last, last = (
            torch.cat([cls_token, patches], dim=1)  # (B, 1+L, D)
            for cls_token, patches in zip(
                out["image_intermediates_prefix"], out["image_intermediates"], strict=True
            )
        )
        features = visual.ln_post(last) @ visual.proj  # (B, 1+L, C)
        return features, class_attention(visual.transformer.resblocks[-1], before_last)


def class_attention(block: Any, x: Tensor) -> Tensor:
    """Attention of the class token to the patches, averaged over heads; no other row is computed.

    Args:
        block: The last residual block of an open_clip tower.
        x: (B, 1+L, D), the input of that block.

    Returns:
        (B, L) float32. A row sums to 1 minus the attention that the class token pays to itself.
    """
    num_heads = block.attn.num_heads
    x = block.ln_1(x)
    w_q, w_k, _ = block.attn.in_proj_weight.chunk(3)
    b_q, b_k, _ = block.attn.in_proj_bias.chunk(3)
    q = F.linear(x[:, :1], w_q, b_q).unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, A, 1, d)
    k = F.linear(x, w_k, b_k).unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, A, 1+L, d)
    logits = (q @ k.transpose(2, 3)).float() / q.shape[-1] ** 0.5
    return logits.softmax(dim=-1)[:, :, 0, 1:].mean(dim=1)


class HiddenTeacher(nn.Module):
    """Keeps a frozen module out of everything that belongs to the student.

    The teacher is no submodule: it has no entry in `parameters()`, so neither in the optimizer nor
    in DDP's buckets, and none in `state_dict()`, so not in checkpoints. It takes no gradient, stays
    in eval mode and runs without a graph. It still follows the student to a device.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        # a tuple hides the module from nn.Module's registration
        self._teacher = (teacher.eval().requires_grad_(False),)

    @property
    def module(self) -> nn.Module:
        """The teacher itself."""
        return self._teacher[0]

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> Any:
        """Calls the teacher without building a graph."""
        return self.module(imgs)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        self.module._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _create_clip(model_name: str, pretrained: str, image_size: int | None) -> nn.Module:
    model_config = open_clip.get_model_config(model_name)
    if model_config is None:
        raise ValueError(
            f"teacher '{model_name}' is no architecture of open_clip: `python -c 'import "
            "open_clip; print(open_clip.list_models())'` lists them"
        )
    source: str | None = pretrained
    if pretrained == "shipped":
        source = str(SHIPPED.get(model_name, f"no weights of {model_name} are shipped"))
    elif pretrained == "random":
        print_log(f"teacher {model_name} has RANDOM weights: good for trials only", "current", 30)
        source = None
    elif not pretrained:
        raise ValueError(
            f"teacher '{model_name}' has no weights: set teacher.pretrained to a tag "
            f"{open_clip.list_pretrained_tags_by_model(model_name)} or to a local file"
        )
    _check_activation(model_name, bool(model_config.get("quick_gelu")), pretrained)
    try:
        return open_clip.create_model(
            model_name,
            pretrained=source,
            device=torch.get_default_device(),  # open_clip's own default overrides `with device:`
            force_image_size=image_size,
            weights_only=True,
        )
    except Exception as error:  # a wrong tag, no network, a corrupt or foreign file
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"weights '{pretrained}' of teacher '{model_name}' could not be loaded: {reason} - "
            "give a tag of open_clip, or the path of a file that belongs to this architecture"
        ) from error


def _check_activation(model_name: str, tower_is_quick: bool, pretrained: str) -> None:
    """Refuse weights in a tower with the other GELU: the features would silently differ."""
    tag_config = open_clip.get_pretrained_cfg(model_name, pretrained)
    if tag_config:
        weights_are_quick = bool(tag_config.get("quick_gelu"))
    elif Path(pretrained).is_file():
        # OpenAI's own files carry these scalars; other local files do not tell their activation
        keys = read_checkpoint(pretrained).keys()
        if not {"input_resolution", "context_length", "vocab_size"} & keys:
            return
        weights_are_quick = True
    else:
        return
    if weights_are_quick != tower_is_quick:
        name = model_name.removesuffix("-quickgelu") + ("-quickgelu" if weights_are_quick else "")
        raise ValueError(
            f"weights '{pretrained}' were trained with {'Quick' if weights_are_quick else ''}GELU, "
            f"the tower '{model_name}' has {'Quick' if tower_is_quick else ''}GELU: use '{name}'"
        )


def _check_tower(model_name: str, visual: Any) -> None:
    blocks: Any = getattr(getattr(visual, "transformer", None), "resblocks", ())
    plain = blocks and hasattr(visual, "class_embedding") and visual.attn_pool is None
    if not plain or not isinstance(blocks[-1].attn, nn.MultiheadAttention):
        raise ValueError(
            f"teacher '{model_name}' has no plain ViT with a class token as image tower, whose "
            "class attention could be read: use a ViT of open_clip, e.g. 'ViT-B-16-quickgelu'"
        )
    if len(blocks) < 2:
        raise ValueError(f"teacher '{model_name}' has {len(blocks)} block, at least 2 are needed")
