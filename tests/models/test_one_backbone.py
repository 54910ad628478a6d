"""One weights file serves every task: the same tokens, whoever asks for them.

The backbones are those of the shipped recipes, made small. What is compared: classification and
segmentation see the tokens of pretraining, class token included. Detection has no class token, so
its patches attend to other tokens and their values differ; it is compared with timm's ViT without
class token, in global attention, with windows and relative positions switched off.
"""

import functools
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from milan_mm.configs import load
from milan_mm.models.plain_vit import PlainViT
from milan_mm.registry import MODELS
from tests.helpers import milan_config, randomise, save_state

ARCH = dict(embed_dims=48, num_layers=4, num_heads=4)
SIDE, PATCH = 96, 8
RECIPES = dict(
    finetune="cls/finetune_vit-base-p16_8xb128-amp-coslr-100e_in1k",
    linear="cls/linear_vit-base-p16_8xb2048-amp-coslr-100e_in1k",
    seg="seg/upernet_vit-base-p16_8xb2-amp-160k_ade20k-512x512",
    det="det/mask-rcnn_vit-base-p16_8xb8-amp-lsj-100e_coco",
)
# image sizes in pixels: that of pretraining, a smaller, a larger and a non-square one
sizes = pytest.mark.parametrize("size", [(96, 96), (48, 48), (128, 128), (64, 120)])


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlainViT, Path]:
    """The encoder of a MILAN, and the checkpoint that holds it."""
    torch.manual_seed(0)
    config = milan_config()
    config["backbone"]["arch"] = ARCH
    model = randomise(MODELS.build(config)).eval()
    folder = tmp_path_factory.mktemp("weights")
    return model.backbone, save_state(dict(state_dict=model.state_dict()), folder, "milan.pth")


@functools.cache
def config_of(task: str) -> ConfigDict:
    """The backbone of a recipe with fewer and narrower blocks."""
    cfg = load(RECIPES[task]).model.backbone
    cfg.update(arch=ARCH, img_size=SIDE, patch_size=PATCH)
    if len(cfg.get("out_indices", (-1,))) == 4:
        cfg.out_indices = (0, 1, 2, 3)
    return cfg


def backbone(task: str, file: Path, **settings) -> PlainViT:
    """The backbone of a recipe, filled from the file."""
    init_cfg = dict(type="milan_mm.EncoderWeights", checkpoint=str(file))
    vit = MODELS.build(dict(config_of(task), init_cfg=init_cfg, **settings)).eval()
    vit.init_weights()
    return vit


def global_detector(file: Path, **settings) -> PlainViT:
    """Detection's backbone without windows and without relative positions."""
    return backbone("det", file, window_size=0, global_layers=(), rel_pos_grid=None, **settings)


def tokens_of_pretraining(encoder: PlainViT, imgs: Tensor) -> list[Tensor]:
    """All tokens (B, 1+L, D) after each block, and last after the final norm, as in MILAN."""
    after: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: after.append(out))
        for layer in encoder.layers
    ]
    last = encoder.encode(encoder.embed(imgs))
    for hook in hooks:
        hook.remove()
    return [*after, last]


@sizes
def test_linear_probe_sees_the_class_token_of_pretraining(pretraining, size):
    encoder, file = pretraining
    imgs = torch.randn(2, 3, *size)
    (out,) = backbone("linear", file)(imgs)
    torch.testing.assert_close(out, tokens_of_pretraining(encoder, imgs)[-1][:, 0])


@sizes
def test_finetuning_starts_from_the_mean_of_the_patches_of_pretraining(pretraining, size):
    encoder, file = pretraining
    imgs = torch.randn(2, 3, *size)
    (out,) = backbone("finetune", file)(imgs)
    last = tokens_of_pretraining(encoder, imgs)[-2]  # its own norm comes after the mean
    expected = nn.functional.layer_norm(last[:, 1:].mean(dim=1), (48,), eps=1e-6)
    torch.testing.assert_close(out, expected)


@sizes
def test_segmentation_sees_the_patches_of_every_block_of_pretraining(pretraining, size):
    encoder, file = pretraining
    imgs = torch.randn(2, 3, *size)
    maps = backbone("seg", file)(imgs)
    grid = (size[0] // PATCH, size[1] // PATCH)
    for out, tokens in zip(maps, tokens_of_pretraining(encoder, imgs), strict=False):
        assert out.shape[2:] == grid
        torch.testing.assert_close(out.flatten(2).transpose(1, 2), tokens[:, 1:])
    assert len(maps) == 4


@sizes
def test_detection_is_timm_without_class_token(pretraining, size):
    encoder, file = pretraining
    theirs = TimmViT(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=48,
        depth=4,
        num_heads=4,
        num_classes=0,
        class_token=False,
        global_pool="",
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        final_norm=False,
        dynamic_img_size=True,
    ).eval()
    theirs.load_state_dict(in_timm_names(encoder.state_dict()), strict=True)
    imgs = torch.randn(2, 3, *size)
    (out,) = global_detector(file, pos_resize="bicubic-antialias")(imgs)  # as timm does
    torch.testing.assert_close(out.flatten(2).transpose(1, 2), theirs(imgs), rtol=1e-4, atol=1e-5)


def in_timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without class token and final norm."""
    names = {
        "patch_embed.projection": "patch_embed.proj",
        ".ln1.": ".norm1.",
        ".ln2.": ".norm2.",
        ".ffn.layers.0.0.": ".mlp.fc1.",
        ".ffn.layers.1.": ".mlp.fc2.",
        "layers.": "blocks.",
    }
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(("ln1.", "cls_token")):
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        renamed[name] = tensor[:, 1:] if name == "pos_embed" else tensor
    return renamed


def test_windows_as_large_as_the_image_are_global_attention(pretraining):
    _, file = pretraining
    imgs = torch.randn(2, 3, SIDE, SIDE)
    windowed = backbone("det", file, window_size=SIDE // PATCH, global_layers=(1,))
    torch.testing.assert_close(
        windowed(imgs)[0], global_detector(file)(imgs)[0], rtol=1e-4, atol=1e-5
    )
