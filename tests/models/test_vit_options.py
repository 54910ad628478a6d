"""The options that make PlainViT the encoder of other systems: against the systems' own classes.

The names are translated here by hand, a few lines per class; `milan_mm.weights` has its own tests.
"""

import pytest
import timm
import torch
from mmpretrain.models import BEiTViT
from open_clip.model import VisionTransformer as ClipTower
from timm.models.beit import Beit
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from tests.helpers import TINY_ARCH, randomise, tiny_vit

D, LAYERS, HEADS = TINY_ARCH["embed_dims"], TINY_ARCH["num_layers"], TINY_ARCH["num_heads"]
TIMM_SIZES = dict(img_size=32, patch_size=8, embed_dim=D, depth=LAYERS, num_heads=HEADS)
# of one block: here -> in timm
TIMM_NAMES = {
    "ln1": "norm1",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "ln2": "norm2",
    "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
}


def copy(vit: PlainViT, values: dict[str, Tensor]) -> PlainViT:
    """Fill every tensor of an encoder."""
    vit.load_state_dict(values, strict=True)
    return vit.eval()


def named_blocks(source: dict[str, Tensor], stem: str, names: dict[str, str]) -> dict[str, Tensor]:
    """The weights and biases of all blocks, under the names of PlainViT."""
    return {
        f"layers.{i}.{ours}.{kind}": source[f"{stem}.{i}.{theirs}.{kind}"]
        for i in range(LAYERS)
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
        if f"{stem}.{i}.{theirs}.{kind}" in source
    }


def from_timm(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a ViT, Beit or Eva of timm under the names of PlainViT."""
    source = model.state_dict()
    values = named_blocks(source, "blocks", TIMM_NAMES)
    values |= {f"patch_embed.projection.{k}": source[f"patch_embed.proj.{k}"] for k in KINDS}
    values |= {f"ln1.{kind}": source[f"norm.{kind}"] for kind in KINDS}
    values["cls_token"] = source["cls_token"]
    if "pos_embed" in source:
        values["pos_embed"] = source["pos_embed"]
    if "reg_token" in source:
        values["register_tokens"] = source["reg_token"]
    for i in range(LAYERS):
        block, ours = f"blocks.{i}", f"layers.{i}"
        if f"{block}.attn.q_bias" in source:
            q, v = source[f"{block}.attn.q_bias"], source[f"{block}.attn.v_bias"]
            values[f"{ours}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
        for n in (1, 2):
            for name in (f"{block}.gamma_{n}", f"{block}.ls{n}.gamma"):
                if name in source:
                    values[f"{ours}.gamma_{n}"] = source[name]
        if f"{block}.attn.relative_position_bias_table" in source:
            table = source[f"{block}.attn.relative_position_bias_table"]
            values[f"{ours}.attn.relative_position_bias_table"] = table
    return values


KINDS = ("weight", "bias")


@pytest.mark.parametrize("size", [(32, 32), (48, 24)])
def test_layer_scale_and_registers_equal_timms_dinov2(size):
    theirs = timm.models.VisionTransformer(
        **TIMM_SIZES,
        init_values=1e-5,
        reg_tokens=3,
        no_embed_class=True,
        num_classes=0,
        dynamic_img_size=True,
    )
    randomise(theirs).eval()
    ours = PlainViT(
        TINY_ARCH, 32, 8, out_type="raw", layer_scale=1.0, num_registers=3, init_cfg=None
    )
    values = from_timm(theirs)
    # this timm model adds no position to the class token: a zero row
    values["pos_embed"] = torch.cat([torch.zeros(1, 1, D), values["pos_embed"]], dim=1)
    imgs = torch.randn(2, 3, *size)
    (out,) = copy(ours, values)(imgs)
    torch.testing.assert_close(out, theirs.forward_features(imgs), rtol=1e-5, atol=1e-5)


def test_bias_tables_without_absolute_positions_equal_timms_beit():
    theirs = randomise(
        Beit(**TIMM_SIZES, init_values=0.1, use_rel_pos_bias=True, use_abs_pos_emb=False)
    )
    theirs.norm = randomise(nn.LayerNorm(D, eps=1e-6))  # fine-tuned ones have it after pooling
    theirs.eval()
    ours = PlainViT(
        TINY_ARCH,
        32,
        8,
        out_type="raw",
        layer_scale=1.0,
        with_pos_embed=False,
        rel_pos_bias_grid=(4, 4),
    )
    imgs = torch.randn(2, 3, 32, 32)
    (out,) = copy(ours, from_timm(theirs))(imgs)
    torch.testing.assert_close(out, theirs.forward_features(imgs), rtol=1e-5, atol=1e-5)


def test_bias_tables_on_a_non_square_grid_equal_mmpretrains_beit():
    theirs = BEiTViT(
        arch=TINY_ARCH | dict(feedforward_channels=4 * D),
        img_size=(48, 24),
        patch_size=8,
        out_type="raw",
        final_norm=True,
    )
    randomise(theirs)
    theirs.train(False)  # mmpretrain's eval() returns nothing
    source = theirs.state_dict()
    ours = PlainViT(
        TINY_ARCH,
        (48, 24),
        8,
        out_type="raw",
        layer_scale=1.0,
        with_pos_embed=False,
        rel_pos_bias_grid=(6, 3),
    )
    values = {n: t for n, t in source.items() if n in ours.state_dict()}
    for i in range(LAYERS):
        q, v = source[f"layers.{i}.attn.q_bias"], source[f"layers.{i}.attn.v_bias"]
        values[f"layers.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    imgs = torch.randn(2, 3, 48, 24)
    (out,) = copy(ours, values)(imgs)
    torch.testing.assert_close(out, theirs(imgs)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (48, 24)])
def test_rotary_positions_equal_timms_dinov3(size):
    theirs = timm.create_model(
        "vit_tiny_patch16_dinov3_qkvb",
        **TIMM_SIZES,
        global_pool="token",
        num_classes=0,
        num_reg_tokens=2,
    )
    randomise(theirs).eval()
    ours = PlainViT(
        TINY_ARCH,
        32,
        8,
        out_type="raw",
        layer_scale=1.0,
        with_pos_embed=False,
        num_registers=2,
        rope_base=100.0,
        norm_eps=1e-5,
    )
    imgs = torch.randn(2, 3, *size)
    (out,) = copy(ours, from_timm(theirs))(imgs)
    torch.testing.assert_close(out, theirs.forward_features(imgs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("act", ["GELU", "QuickGELU"])
def test_pre_norm_activation_and_epsilon_equal_open_clips_tower(act):
    from open_clip.transformer import QuickGELU

    theirs = ClipTower(
        image_size=32,
        patch_size=8,
        width=D,
        layers=LAYERS,
        heads=HEADS,
        mlp_ratio=4.0,
        act_layer=nn.GELU if act == "GELU" else QuickGELU,
        output_tokens=True,
    )
    source = randomise(theirs).eval().state_dict()
    names = {
        "ln1": "ln_1",
        "attn.proj": "attn.out_proj",
        "ln2": "ln_2",
        "ffn.layers.0.0": "mlp.c_fc",
        "ffn.layers.1": "mlp.c_proj",
    }
    values = named_blocks(source, "transformer.resblocks", names)
    for i in range(LAYERS):
        for kind in KINDS:
            packed = source[f"transformer.resblocks.{i}.attn.in_proj_{kind}"]
            values[f"layers.{i}.attn.qkv.{kind}"] = packed
    values |= {f"pre_norm.{kind}": source[f"ln_pre.{kind}"] for kind in KINDS}
    values |= {f"ln1.{kind}": source[f"ln_post.{kind}"] for kind in KINDS}
    values["patch_embed.projection.weight"] = source["conv1.weight"]
    values["cls_token"] = source["class_embedding"][None, None]
    values["pos_embed"] = source["positional_embedding"][None]
    options = dict(act=act, norm_eps=1e-5, pre_norm=True, patch_bias=False)
    ours = copy(PlainViT(TINY_ARCH, 32, 8, out_type="raw", **options), values)
    imgs = torch.randn(2, 3, 32, 32)
    pooled, tokens = theirs(imgs)  # the class token is projected, the tokens are not
    torch.testing.assert_close(ours(imgs)[0][:, 1:], tokens, rtol=1e-5, atol=1e-5)
    projected = ours(imgs)[0][:, 0] @ source["proj"]
    torch.testing.assert_close(projected, pooled, rtol=1e-5, atol=1e-5)


def test_rotary_positions_in_one_window_equal_global_ones():
    settings = dict(with_cls_token=False, with_pos_embed=False, rope_base=100.0, out_type="raw")
    whole = tiny_vit(**settings)
    windowed = tiny_vit(**settings, window_size=4)
    windowed.load_state_dict(whole.state_dict())
    imgs = torch.randn(2, 3, 32, 32)  # 4x4 patches
    torch.testing.assert_close(windowed(imgs)[0], whole(imgs)[0], rtol=1e-4, atol=1e-5)


def test_bias_tables_serve_windows_of_their_own_size():
    settings = dict(with_cls_token=False, with_pos_embed=False, rel_pos_bias_grid=(2, 2))
    windowed = tiny_vit(**settings, window_size=2, out_type="raw")
    whole = tiny_vit(**settings, out_type="raw")
    whole.load_state_dict(windowed.state_dict())
    imgs = torch.randn(1, 3, 32, 32)
    (out,) = windowed(imgs)
    for row in (0, 16):
        for col in (0, 16):
            window = imgs[..., row : row + 16, col : col + 16]
            (expected,) = whole(window)
            found = out.unflatten(1, (4, 4))[:, row // 8 : row // 8 + 2, col // 8 : col // 8 + 2]
            torch.testing.assert_close(found.flatten(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        dict(layer_scale=0.1),
        dict(pre_norm=True, patch_bias=False, act="QuickGELU"),
        dict(with_pos_embed=False, rel_pos_bias_grid=(4, 4)),
        dict(with_pos_embed=False, num_registers=2, rope_base=100.0),
    ],
)
def test_recomputing_activations_changes_no_gradient(options):
    plain, saving = tiny_vit(**options), tiny_vit(**options, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    imgs = torch.randn(1, 3, 48, 24)
    for vit in (plain, saving):
        vit.train()(imgs)[0].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6)


def test_layer_depths_of_the_new_tensors():
    vit = tiny_vit(pre_norm=True, num_registers=2, layer_scale=0.1)
    depths = {n: vit.get_layer_depth(f"backbone.{n}", "backbone.")[0] for n in vit.state_dict()}
    assert depths["register_tokens"] == depths["pre_norm.weight"] == 0
    assert depths["layers.1.gamma_1"] == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(act="ReLU"), "ReLU"),
        (dict(window_size=2, with_cls_token=False, num_registers=1), "registers"),
        (dict(rel_pos_bias_grid=4, num_registers=1), "registers"),
        (dict(rel_pos_bias_grid=4, rope_base=100.0), "rel_pos_bias_grid and rope_base"),
    ],
)
def test_contradictory_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        tiny_vit(**options)


def test_a_subset_of_patches_is_refused_where_places_matter():
    vit = tiny_vit(rel_pos_bias_grid=(4, 4))
    with pytest.raises(ValueError, match="subset"):
        vit.encode(vit.embed(torch.randn(1, 3, 32, 32)))
