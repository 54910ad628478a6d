"""CLIP as a teacher: open_clip knows architectures and published weights by name."""

import json
from dataclasses import fields
from pathlib import Path
from textwrap import shorten
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from torch import Tensor

from milan_mm.errors import UserError
from milan_mm.models.vit_options import pair
from milan_mm.pretrain.teacher import Teacher
from milan_mm.pretrain.tower import Tower, warn_of_random_weights
from milan_mm.registry import MODELS
from milan_mm.weights.finding import Found, find_encoder
from milan_mm.weights.names import ASSETS
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.systems import SYSTEMS
from milan_mm.weights.torchscript import is_torchscript

# What OpenAI's files hold besides weights; no other CLIP's do.
_OPENAI_SETTINGS = {"input_resolution", "context_length", "vocab_size"}
# Options of an image tower that `PlainViT` has, and those that only training or other poolings use.
_EXPRESSED = {"layers", "width", "head_width", "patch_size", "image_size", "ls_init_value"}
_EXPRESSED |= {"no_ln_pre", "norm_kwargs", "pos_embed_type"}
_IRRELEVANT = {"patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"}
SHIPPED = {"shapes-clip": ASSETS / "shapes_clip.safetensors"}
OWN = {*SHIPPED, "photos-clip"}  # architectures that this package describes


@MODELS.register_module()
class CLIPTeacher(Teacher):
    """The image tower of an open_clip ViT; features are projected to the image-text space.

    Args:
        model_name: An architecture of open_clip, e.g. 'ViT-B-16-quickgelu'; `shapes-clip` is the
            tiny CLIP that this package ships, `photos-clip` that of
            tools/train_photographs_clip.py, whose weights are a file.
        pretrained: A tag of open_clip ('openai'), a local file (OpenAI's own archive, safetensors,
            or a torch file without pickled code), 'shipped', or 'random' for trials of speed and
            plumbing.
        input_stats, stats, grid_size, num_target_layers: See `Teacher`.

    Raises:
        UserError: When the architecture is not a plain ViT that is pooled by its class token, and
            when weights are missing or do not belong to it.
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
        tower = fetch_tower(model_name, pretrained)
        super().__init__(model_name, tower, input_stats, stats, grid_size, num_target_layers)


def model_config(model_name: str) -> dict[str, Any]:
    """Describe an architecture of open_clip, or one of ours, in open_clip's terms.

    Raises:
        UserError: When there is none of that name.
    """
    if model_name in OWN:
        return json.loads((ASSETS / f"{model_name}.json").read_text())
    config = open_clip.get_model_config(model_name)
    if config is None:
        raise UserError(
            f"teacher '{model_name}' is not an architecture of open_clip: `python -c 'import "
            "open_clip; print(open_clip.list_models())'` lists them"
        )
    return config


def fetch_tower(model_name: str, pretrained: str) -> Tower:
    """The image tower of a CLIP; its text tower is dropped.

    Args:
        model_name, pretrained: See `CLIPTeacher`.

    Raises:
        UserError: See `CLIPTeacher`.
    """
    config = model_config(model_name)
    options = _options(model_name, config)
    if pretrained == "shipped":
        pretrained = str(SHIPPED.get(model_name, f"no weights of {model_name} are shipped"))
    elif pretrained == "random":
        warn_of_random_weights(model_name)
    elif not pretrained:
        raise UserError(
            f"teacher '{model_name}' has no weights: set teacher.pretrained to a tag "
            f"{open_clip.list_pretrained_tags_by_model(model_name)} or to a local file"
        )
    source = f"weights '{pretrained}' of teacher '{model_name}'"
    found = None
    if Path(pretrained).is_file():
        found = find_encoder(read_checkpoint(pretrained), source, "clip")
    _check_activation(model_name, options["act"], pretrained, found)
    tensors = _created(model_name, config, pretrained, is_file=found is not None)
    if found:
        tensors = found.tower
    if not isinstance(tensors.get("proj"), Tensor):
        raise UserError(f"{source} have no 'proj', the projection to the image-text space")
    return Tower(source, "clip", tensors, options, projection=tensors["proj"].detach().float())


def _options(model_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a `PlainViT` that computes what the image tower does."""
    cfg = open_clip.CLIPVisionCfg(**config["vision_cfg"])
    values = {field.name: (getattr(cfg, field.name), field.default) for field in fields(cfg)}
    foreign = {
        name: value
        for name, (value, default) in values.items()
        if value != default and name not in _EXPRESSED | _IRRELEVANT
    }
    if not isinstance(cfg.layers, int):
        foreign["layers"] = cfg.layers
    if foreign:
        settings = ", ".join(f"{name}={value}" for name, value in foreign.items())
        raise UserError(
            f"teacher '{model_name}': its image tower is not a ViT that PlainViT can express, with "
            f"MLPs 4 times as wide and pooled by its class token; open_clip says {settings}: use a "
            "plain ViT, e.g. 'ViT-B-16-quickgelu'"
        )
    height, width = pair(cfg.image_size)
    return dict(
        arch=dict(
            embed_dims=cfg.width, num_layers=cfg.layers, num_heads=cfg.width // cfg.head_width
        ),
        img_size=(height, width),
        patch_size=cfg.patch_size,
        norm_eps=(cfg.norm_kwargs or {}).get("eps", 1e-5),
        act="QuickGELU" if config.get("quick_gelu") else "GELU",
        patch_bias=False,
        pre_norm=not cfg.no_ln_pre,
        layer_scale=cfg.ls_init_value,
        pos_resize=SYSTEMS["open_clip"].pos_resize,
    )


def _created(
    model_name: str, config: dict[str, Any], pretrained: str, is_file: bool
) -> dict[str, Tensor]:
    """The image tower's tensors in open_clip's model, with the weights of a tag or random ones.

    It is created for a file too, so that the student's initialisation depends on the seed only.
    """
    is_random = is_file or pretrained == "random"
    try:
        model: Any
        if model_name not in OWN:
            model = open_clip.create_model(
                model_name,
                pretrained=None if is_random else pretrained,
                device=torch.get_default_device(),  # open_clip's default overrides `with device:`
                weights_only=True,
            )
        elif is_random:
            model = open_clip.CLIP(**config)
        else:
            raise UserError("there is no such file")
    except Exception as error:  # a wrong tag, no network, a damaged download
        reason = shorten(str(error), 300, placeholder=" ...")
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' could not be loaded: {reason} - "
            "give a tag of open_clip, or the path of a file that belongs to this architecture"
        ) from error
    return model.visual.state_dict()


def _check_activation(model_name: str, act: str, pretrained: str, found: Found | None) -> None:
    """Refuse weights in a tower with the other GELU: the features would silently differ."""
    tag_config = open_clip.get_pretrained_cfg(model_name, pretrained)
    if tag_config:
        wanted = "QuickGELU" if tag_config.get("quick_gelu") else "GELU"
    elif found and _OPENAI_SETTINGS & found.state_dict.keys():
        wanted = "QuickGELU"
    elif found and is_torchscript(Path(pretrained)):
        raise UserError(
            f"weights '{pretrained}' of teacher '{model_name}' are a TorchScript archive, and not "
            "one of OpenAI's CLIP: save its state_dict() as safetensors if you trust it"
        )
    else:
        if found and model_name not in OWN:
            print_log(
                f"weights '{pretrained}' do not state their activation: {act} is used, as in "
                f"'{model_name}'; OpenAI's need the -quickgelu architecture",
                "current",
            )
        return
    if wanted != act:
        name = model_name.removesuffix("-quickgelu")
        name += "-quickgelu" if wanted == "QuickGELU" else ""
        raise UserError(
            f"weights '{pretrained}' were trained with {wanted}, the tower '{model_name}' has "
            f"{act}: use '{name}'"
        )
