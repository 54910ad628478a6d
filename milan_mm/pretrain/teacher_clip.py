"""CLIP as a teacher: the image tower of any open_clip ViT, its features and class attention."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from safetensors.torch import save_file
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.models.patches import embed_patches, patchify
from milan_mm.pretrain.teacher import ASSETS, Teacher, check_layer_counts, class_attention
from milan_mm.registry import MODELS
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.torchscript import is_torchscript

# What OpenAI's files hold besides weights; no other CLIP's do.
_OPENAI_SETTINGS = {"input_resolution", "context_length", "vocab_size"}
_QUICK = 1.702  # the factor in QuickGELU
SHIPPED = {"shapes-clip": ASSETS / "shapes_clip.safetensors"}
open_clip.add_model_config(ASSETS / "shapes-clip.json")


@MODELS.register_module()
class CLIPTeacher(Teacher):
    """open_clip's image tower. The text tower is dropped as soon as the weights are checked.

    Args:
        model_name: An architecture of open_clip, e.g. 'ViT-B-16-quickgelu'; `shapes-clip` is the
            tiny CLIP that this package ships.
        pretrained: A tag of open_clip ('openai'), a local file (OpenAI's own archive, safetensors,
            or a torch file without pickled code), 'shipped', or 'random' for trials of speed and
            plumbing.
        input_stats: See `Teacher`.
        stats: See `Teacher`.
        grid_size: (h, w) of the student's patches. Images are resized to `grid_size` times the
            tower's patch size, and its position table to `grid_size`, so that a teacher of any
            patch size looks at the student's patches. None takes the tower's own grid.
        num_target_layers: The target is the mean over that many last layers, each after `ln_post`;
            1, the last layer alone, is the published method.

    Raises:
        UserError: When weights are missing or do not belong to the architecture.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: str,
        input_stats: dict,
        stats: dict,
        grid_size: tuple[int, int] | None = None,
        num_target_layers: int = 1,
    ) -> None:
        visual: Any = _create_clip(model_name, pretrained, grid_size).visual
        _check_tower(model_name, visual)
        check_layer_counts(model_name, len(visual.transformer.resblocks), num_target_layers)
        super().__init__(
            input_stats,
            stats,
            image_size=tuple(visual.image_size),
            grid_size=tuple(visual.grid_size),
            target_dims=visual.output_dim,
            with_cls_token=True,
        )
        self.visual: Any = visual
        visual.conv1.forward = partial(_embed, visual.conv1)
        for block in self.blocks:
            block.attention = partial(_self_attention, block.attn)
            if isinstance(block.mlp.gelu, open_clip.transformer.QuickGELU):
                _fold_quick_gelu(block.mlp)
        self.num_target_layers = num_target_layers

    @property
    def blocks(self) -> Any:
        """The transformer blocks, first to last."""
        return self.visual.transformer.resblocks

    def look(self, imgs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Teacher.forward`; features after `ln_post` and the projection to text space."""
        visual, blocks = self.visual, self.blocks
        num_maps = max(self.num_target_layers, 2)
        tokens = self._tokens(imgs, range(len(blocks) - num_maps, len(blocks)))
        last = [visual.ln_post(x) for x in tokens[-self.num_target_layers :]]
        features = torch.stack(last).mean(dim=0) @ visual.proj  # (B, 1+L, C)
        return features, _class_attention(blocks[-1], tokens[-2])

    def attend(self, imgs: Tensor) -> Tensor:
        """See `Teacher.importance`."""
        (x,) = self._tokens(imgs, [len(self.blocks) - 2])
        return _class_attention(self.blocks[-1], x)

    def _tokens(self, imgs: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """(B, 1+L, D) after each of these blocks, which are the last that run."""
        out = self.visual.forward_intermediates(
            imgs,
            indices=list(indices),
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        pairs = zip(out["image_intermediates_prefix"], out["image_intermediates"], strict=True)
        return [torch.cat([cls_token, patches], dim=1) for cls_token, patches in pairs]


def _embed(conv: nn.Conv2d, imgs: Tensor) -> Tensor:
    """The convolution by a matrix product: (B, 3, H, W) to (B, D, h, w)."""
    return embed_patches(conv, patchify(imgs, conv.kernel_size[0])).permute(0, 3, 1, 2)


def _self_attention(attn: Any, q_x: Tensor, **_: None) -> Tensor:
    """What a block of open_clip does by `nn.MultiheadAttention`: (B, N, D) to (B, N, D).

    That module transposes batch and tokens; on CPUs such tensors miss the fast bfloat16 kernels,
    and the whole tower takes eleven times as long. Image towers pass no other keys and no mask.
    """
    qkv = F.linear(q_x, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, A, N, d)
    x = F.scaled_dot_product_attention(q, k, v)
    return attn.out_proj(x.transpose(1, 2).flatten(2))


@torch.no_grad()
def _fold_quick_gelu(mlp: Any) -> None:
    """x sigmoid(1.702 x) is silu(1.702 x) / 1.702; put the factors into the linear layers around.

    One pass over the widest map of the block instead of three, and one rounding.
    """
    for parameter in mlp.c_fc.parameters():
        parameter.mul_(_QUICK)
    mlp.c_proj.weight.div_(_QUICK)
    mlp.gelu = nn.SiLU(inplace=True)


def _class_attention(block: Any, x: Tensor) -> Tensor:
    """(B, L) float32 from a residual block of open_clip and its input x (B, 1+L, D)."""
    num_heads = block.attn.num_heads
    x = block.ln_1(x)
    w_q, w_k, _ = block.attn.in_proj_weight.chunk(3)
    b_q, b_k, _ = block.attn.in_proj_bias.chunk(3)
    q = F.linear(x[:, :1], w_q, b_q).unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, A, 1, d)
    k = F.linear(x, w_k, b_k).unflatten(2, (num_heads, -1)).transpose(1, 2)  # (B, A, 1+L, d)
    return class_attention(q, k)


def _create_clip(model_name: str, pretrained: str, grid_size: tuple[int, int] | None) -> nn.Module:
    model_config = open_clip.get_model_config(model_name)
    if model_config is None:
        raise UserError(
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
        raise UserError(
            f"teacher '{model_name}' has no weights: set teacher.pretrained to a tag "
            f"{open_clip.list_pretrained_tags_by_model(model_name)} or to a local file"
        )
    weights = read_checkpoint(source) if source and Path(source).is_file() else {}
    _check_activation(model_name, bool(model_config.get("quick_gelu")), pretrained, weights)
    patch_size = model_config["vision_cfg"].get("patch_size")
    image_size = tuple(n * patch_size for n in grid_size) if grid_size and patch_size else None
    try:
        with _as_open_clip_reads_it(source, weights) as file:
            return open_clip.create_model(
                model_name,
                pretrained=file,
                device=torch.get_default_device(),  # open_clip's default overrides `with device:`
                force_image_size=image_size,
                weights_only=True,
            )
    except Exception as error:  # a wrong tag, no network, a corrupt or foreign file
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' could not be loaded: {reason} - "
            "give a tag of open_clip, or the path of a file that belongs to this architecture"
        ) from error


@contextmanager
def _as_open_clip_reads_it(source: str | None, weights: dict) -> Iterator[str | None]:
    """A file of OpenAI as a file of open_clip, for a moment; everything else as it is.

    open_clip would execute the code of an archive, and refuses settings among the weights.
    """
    if not _OPENAI_SETTINGS & weights.keys():
        yield source
        return
    tensors = {
        name: tensor.float().contiguous()  # OpenAI's are float16
        for name, tensor in weights.items()
        if name not in _OPENAI_SETTINGS and not name.endswith("attn_mask")
    }
    with TemporaryDirectory() as folder:
        save_file(tensors, Path(folder, "clip.safetensors"))
        yield str(Path(folder, "clip.safetensors"))


def _check_activation(
    model_name: str, tower_is_quick: bool, pretrained: str, weights: dict
) -> None:
    """Refuse weights in a tower with the other GELU: the features would silently differ."""
    tag_config = open_clip.get_pretrained_cfg(model_name, pretrained)
    if tag_config:
        weights_are_quick = bool(tag_config.get("quick_gelu"))
    elif Path(pretrained).is_file():
        is_openais = bool(_OPENAI_SETTINGS & weights.keys())
        if is_torchscript(Path(pretrained)) and not is_openais:
            raise UserError(
                f"weights '{pretrained}' of teacher '{model_name}' are a TorchScript archive, and "
                "not one of OpenAI's CLIP: save its state_dict() as safetensors where you trust it"
            )
        if not is_openais:  # other local files do not tell their activation
            return
        weights_are_quick = True
    else:
        return
    if weights_are_quick != tower_is_quick:
        name = model_name.removesuffix("-quickgelu") + ("-quickgelu" if weights_are_quick else "")
        raise UserError(
            f"weights '{pretrained}' were trained with {'Quick' if weights_are_quick else ''}GELU, "
            f"the tower '{model_name}' has {'Quick' if tower_is_quick else ''}GELU: use '{name}'"
        )


def _check_tower(model_name: str, visual: Any) -> None:
    blocks: Any = getattr(getattr(visual, "transformer", None), "resblocks", ())
    plain = blocks and hasattr(visual, "class_embedding") and visual.attn_pool is None
    by_class_token = plain and visual.pool_type == "tok" and not visual.final_ln_after_pool
    if not by_class_token or not isinstance(blocks[-1].attn, nn.MultiheadAttention):
        raise UserError(
            f"teacher '{model_name}' has no plain ViT as image tower that is pooled by its class "
            "token, whose attention could be read: use a ViT of open_clip, e.g. "
            "'ViT-B-16-quickgelu'"
        )
