"""Converting pretraining checkpoints: other codebases compute the same, and no bit changes."""

import itertools
import re
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint
from mmpretrain.models import MAE, MILAN
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from milan_mm.pretrain.decoder import MAEDecoder, PromptingDecoder
from milan_mm.registry import MODELS
from milan_mm.weights import converting
from milan_mm.weights.converting import CODEBASES, convert_checkpoint, convert_state_dict
from milan_mm.weights.reading import read_checkpoint
from tests.helpers import (
    milan_config,
    random_split,
    randomise,
    tiny_decoder,
    tiny_vit,
)

DECODERS = [PromptingDecoder, MAEDecoder]
HEADS = 4


class Ours(nn.Module):
    """Encoder and decoder of this package, as a MILAN holds them: 4x4 patches of 8 pixels."""

    def __init__(self, decoder: type) -> None:
        super().__init__()
        self.backbone = tiny_vit(fixed_pos_embed=True)
        self.decoder = tiny_decoder(decoder, (4, 4))

    def forward(self, imgs: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), (B, K), (B, M) to latent (B, 1+K, D) and prediction (B, 1+L, C)."""
        latent = self.backbone.encode(self.backbone.embed(imgs, ids_keep))
        return latent, self.decoder(latent, ids_keep, ids_mask)


class CrossAttention(nn.Module):
    """Of MILAN's decoder: queries of some tokens, keys and values of all."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(dims, dims), nn.Linear(dims, 2 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, some: Tensor, tokens: Tensor) -> Tensor:
        """(B, M, E) and (B, N, E) to (B, M, E)."""
        projected = self.q(some), *self.kv(tokens).chunk(2, dim=-1)
        heads = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in projected)
        return self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Official(VisionTransformer):
    """The two methods once more, of timm's parts under timm's names, as their authors have it."""

    def __init__(self, decoder: type, pos_embed: Tensor, decoder_pos_embed: Tensor) -> None:
        super().__init__(32, 8, embed_dim=48, depth=3, num_heads=HEADS, num_classes=0)
        self.prompting = decoder is PromptingDecoder
        self.pos_embed = nn.Parameter(pos_embed)
        self.decoder_embed = nn.Linear(48, 32)
        self.mask_token = nn.Parameter(torch.randn(1, 1, 32))
        self.decoder_pos_embed = nn.Parameter(decoder_pos_embed)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.decoder_blocks = nn.ModuleList(
            Block(32, HEADS, qkv_bias=True, norm_layer=norm) for _ in range(2)
        )
        if self.prompting:
            for block in self.decoder_blocks:
                block.attn = CrossAttention(32)
        self.decoder_norm = norm(32)
        self.decoder_pred = nn.Linear(32, 20)
        randomise(self)

    def forward(self, imgs: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `Ours.forward`."""
        rows = torch.arange(len(imgs))[:, None]
        patches = (self.patch_embed(imgs) + self.pos_embed[:, 1:])[rows, ids_keep]
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(imgs), -1, -1)
        latent = self.norm(self.blocks(torch.cat([cls_token, patches], dim=1)))
        embedded = self.decoder_embed(latent)
        x = self.mask_token.repeat(len(imgs), self.decoder_pos_embed.shape[1], 1)
        x[:, 0], x[rows, 1 + ids_keep] = embedded[:, 0], embedded[:, 1:]
        x = x + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = self.prompt(block, x, (rows, 1 + ids_mask)) if self.prompting else block(x)
        return latent, self.decoder_pred(self.decoder_norm(x))

    @staticmethod
    def prompt(block: Block, x: Tensor, masked: tuple[Tensor, Tensor]) -> Tensor:
        """Only masked tokens ask, are normalised before, and change."""
        asking = block.norm1(x[masked])
        y = x[masked] + block.attn(asking, x.index_put(masked, asking))
        return x.index_put(masked, y + block.mlp(block.norm2(y)))


def official_like(model: Ours) -> Official:
    """Another random model; only its tables are those of this package, which MAE's papers share."""
    tables = (model.backbone.pos_embed, model.decoder.decoder_pos_embed)
    return Official(type(model.decoder), *(table.detach().clone() for table in tables))


def mmpretrains(decoder: type, **settings) -> MILAN | MAE:
    """mmpretrain's own model of the same sizes, its tables built by its own rule."""
    prompting = decoder is PromptingDecoder
    arch = dict(embed_dims=48, num_layers=3, num_heads=HEADS, feedforward_channels=192)
    backbone = dict(
        type="MILANViT" if prompting else "MAEViT", arch=arch, img_size=32, patch_size=8
    )
    neck = dict(
        type="MILANPretrainDecoder" if prompting else "MAEPretrainDecoder",
        num_patches=16,
        patch_size=8,
        embed_dim=48,
        decoder_embed_dim=32,
        decoder_depth=2,
        decoder_num_heads=HEADS,
        predict_feature_dim=20,
    )
    model = (MILAN if prompting else MAE)(backbone=backbone, neck=neck, **settings)
    model.init_weights()
    return randomise(model).eval()


def run_mmpretrain(model: MILAN | MAE, imgs: Tensor) -> tuple[Tensor, ...]:
    """latent, prediction, ids_keep and ids_mask of a mask that mmpretrain draws."""
    if isinstance(model, MILAN):
        latent, ids_restore, ids_keep, ids_mask = model.backbone(imgs, torch.ones(len(imgs), 16))
        return latent, model.neck(latent, ids_restore, ids_keep, ids_mask), ids_keep, ids_mask
    latent, _, ids_restore = model.backbone(imgs)
    ids = ids_restore.argsort(dim=1)
    return latent, model.neck(latent, ids_restore), ids[:, :4], ids[:, 4:]


def state_in(layout: str, decoder: type = PromptingDecoder) -> dict[str, Tensor]:
    """A random checkpoint's tensors, from a model of that layout's codebase."""
    if layout == "mmpretrain":
        return mmpretrains(decoder).state_dict()
    model = Ours(decoder)
    return (model if layout == "milan_mm" else official_like(model)).state_dict()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Also for NaN and for the sign of zero."""
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(same_bits(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize("decoder", ["PromptingDecoder", "MAEDecoder"])
def test_a_pretraining_model_of_this_package_is_complete_and_keeps_its_names(decoder: str):
    state = MODELS.build(milan_config(decoder=decoder)).state_dict()
    converted, report = convert_state_dict(state, "milan_mm", "a.pth")
    assert_same_bits(converted, state)
    assert report.found == "milan_mm" and report.sizes.prompting == (decoder == "PromptingDecoder")


@pytest.mark.parametrize("decoder", DECODERS)
def test_mmpretrains_weights_give_its_outputs_here(decoder: type):
    theirs, ours = mmpretrains(decoder), Ours(decoder)
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), "milan_mm", "a.pth")[0])
    imgs = torch.randn(2, 3, 32, 32)
    latent, pred, ids_keep, ids_mask = run_mmpretrain(theirs, imgs)
    our_latent, our_pred = ours(imgs, ids_keep, ids_mask)
    torch.testing.assert_close(our_latent, latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(our_pred[:, -pred.shape[1] :], pred, rtol=0, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_weights_from_here_give_their_outputs_in_mmpretrain(decoder: type):
    theirs, ours = mmpretrains(decoder), Ours(decoder)
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), "mmpretrain", "a.pth")[0])
    imgs = torch.randn(2, 3, 32, 32)
    latent, pred, ids_keep, ids_mask = run_mmpretrain(theirs, imgs)
    our_latent, our_pred = ours(imgs, ids_keep, ids_mask)
    torch.testing.assert_close(latent, our_latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(pred, our_pred[:, -pred.shape[1] :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_official_weights_give_their_outputs_here(decoder: type):
    ours = Ours(decoder)
    theirs = official_like(ours)
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), "milan_mm", "a.pth")[0])
    batch = torch.randn(2, 3, 32, 32), *random_split(2, 16, 4)
    torch.testing.assert_close(ours(*batch), theirs(*batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_weights_from_here_give_their_outputs_in_the_official_layout(decoder: type):
    ours = Ours(decoder)
    theirs = official_like(ours)
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), "official", "a.pth")[0])
    batch = torch.randn(2, 3, 32, 32), *random_split(2, 16, 4)
    torch.testing.assert_close(theirs(*batch), ours(*batch), rtol=0, atol=1e-5)


def test_position_tables_of_mmpretrain_travel_although_ours_would_differ():
    theirs, ours = mmpretrains(PromptingDecoder), Ours(PromptingDecoder)
    converted, _ = convert_state_dict(theirs.state_dict(), "milan_mm", "a.pth")
    for name, table, own in (
        ("backbone.pos_embed", theirs.backbone.pos_embed, ours.backbone.pos_embed),
        (
            "decoder.decoder_pos_embed",
            theirs.neck.decoder_pos_embed,
            ours.decoder.decoder_pos_embed,
        ),
    ):
        assert torch.equal(converted[name], table)
        assert (table - own).abs().max() > 0.5


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("layout", "other"), list(itertools.permutations(CODEBASES, 2)))
def test_round_trip_changes_no_bit(
    layout: str, other: str, suffix: str, decoder: type, tmp_path: Path
):
    state = state_in(layout, decoder)
    names = list(state)
    state[names[0]] = state[names[0]].half()
    state[names[5]][0] = float("nan")
    state[names[6]] = -torch.zeros_like(state[names[6]])
    torch.save({CODEBASES[layout].wrapper: state}, tmp_path / "source.pth")
    convert_checkpoint(tmp_path / "source.pth", tmp_path / f"there{suffix}", other)
    convert_checkpoint(tmp_path / f"there{suffix}", tmp_path / "back.pth", layout)
    assert_same_bits(read_checkpoint(tmp_path / "back.pth")[CODEBASES[layout].wrapper], state)


def test_a_vit_b_counts_as_many_values_as_mmpretrains():
    with torch.device("meta"):
        model = nn.Module()
        model.backbone = PlainViT("base")
        model.decoder = PromptingDecoder(768, (14, 14), 512)
    _, report = convert_state_dict(model.state_dict(), "official", "a.pth")
    # what mmpretrain lists for its model, less its neck's width of 1024 where the encoder has 768
    assert report.num_parameters == 111_907_584 - (1024 - 768) * 512


def test_blocks_of_two_digits_keep_their_numbers():
    model = nn.Module()
    model.backbone = tiny_vit(arch=dict(embed_dims=48, num_layers=12, num_heads=HEADS))
    model.decoder = tiny_decoder(PromptingDecoder, (4, 4), num_layers=11)
    state = model.state_dict()
    for layout in ("official", "mmpretrain", "milan_mm"):
        state, report = convert_state_dict(state, layout, "a.pth")
        assert (report.sizes.num_layers, report.sizes.decoder_layers) == (12, 11)
    assert_same_bits(state, model.state_dict())


@pytest.mark.parametrize("layout", CODEBASES)
def test_every_missing_tensor_is_refused_by_name(layout: str):
    state = state_in(layout)
    for name in state:
        rest = {n: tensor for n, tensor in state.items() if n != name}
        with pytest.raises(ValueError, match=re.escape(name)):
            convert_state_dict(rest, "milan_mm", "a.pth")


@pytest.mark.parametrize("layout", CODEBASES)
def test_every_tensor_of_another_shape_is_refused(layout: str):
    state = state_in(layout)
    for name, tensor in state.items():
        with pytest.raises(ValueError, match=r"a\.pth: .* is \("):
            convert_state_dict(state | {name: tensor[None]}, "milan_mm", "a.pth")
        with pytest.raises(ValueError, match=r"a\.pth: .* is \("):
            convert_state_dict(state | {name: torch.cat([tensor] * 2)}, "milan_mm", "a.pth")


@pytest.mark.parametrize("layout", CODEBASES)
@pytest.mark.parametrize(
    "name", ["head.weight", "norm.running_mean", "blocks.0.gamma_1", "fc_norm"]
)
def test_an_unknown_tensor_is_refused_by_name(layout: str, name: str):
    with pytest.raises(ValueError, match=rf"has unknown tensors .*{name}"):
        convert_state_dict(state_in(layout) | {name: torch.ones(2)}, "milan_mm", "a.pth")


def test_an_entry_that_is_no_tensor_is_refused():
    state = state_in("official") | {"norm.bias": "text"}
    with pytest.raises(
        ValueError, match=r"'norm\.bias' is \(\), the other tensors ask for \(48,\)"
    ):
        convert_state_dict(state, "milan_mm", "a.pth")


@pytest.mark.parametrize("layout", CODEBASES)
@pytest.mark.parametrize("part", ["backbone.layers", "decoder.decoder_blocks"])
def test_a_checkpoint_without_any_block_is_refused(layout: str, part: str):
    prefix = CODEBASES[layout].names[f"{part}.#.ln1"].partition("#")[0]
    state = {n: t for n, t in state_in(layout).items() if not n.startswith(prefix)}
    with pytest.raises(ValueError, match=rf"holds no blocks '{prefix}\*'"):
        convert_state_dict(state, "milan_mm", "a.pth")


def test_a_gap_between_blocks_is_refused():
    state = {n: t for n, t in state_in("official").items() if not n.startswith("blocks.1.")}
    with pytest.raises(
        ValueError, match=r"is missing tensors of layout official: blocks\.1\..* and 7 more"
    ):
        convert_state_dict(state, "milan_mm", "a.pth")


def test_blocks_of_both_decoders_are_refused():
    state = state_in("official", MAEDecoder)
    prompting = state_in("official", PromptingDecoder)
    state |= {n: t for n, t in prompting.items() if n.startswith("decoder_blocks.1.")}
    with pytest.raises(ValueError, match="mixes blocks of MILAN's and of MAE's decoder"):
        convert_state_dict(state, "milan_mm", "a.pth")


@pytest.mark.parametrize("layouts", list(itertools.combinations(CODEBASES, 2)))
def test_names_of_two_layouts_are_refused_as_ambiguous(layouts: tuple[str, str]):
    first, second = layouts
    with pytest.raises(ValueError, match=f"more than one layout, {first} .* and {second} "):
        convert_state_dict(state_in(first) | state_in(second), "milan_mm", "a.pth")


def test_an_encoder_without_its_decoder_is_refused_as_such():
    state = {n: t for n, t in state_in("official").items() if "decoder" not in n}
    message = r"holds 'patch_embed\.proj\.weight', but not 'decoder_embed\.weight': only complete"
    with pytest.raises(ValueError, match=message):
        convert_state_dict(state, "milan_mm", "a.pth")


def test_a_foreign_file_is_refused_with_its_first_names():
    with pytest.raises(
        ValueError, match=r"of milan_mm, official, mmpretrain; .* are: conv1\.weight"
    ):
        convert_state_dict({"conv1.weight": torch.ones(2)}, "milan_mm", "a.pth")


def test_weights_under_two_entries_are_refused(tmp_path: Path):
    state = state_in("official")
    torch.save(dict(model=state, state_dict=state), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds weights under model and state_dict: keep one"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.pth", "milan_mm")


def test_an_unknown_target_layout_is_refused():
    with pytest.raises(ValueError, match="layout 'timm' is unknown: choose from milan_mm, "):
        convert_state_dict(state_in("milan_mm"), "timm", "a.pth")


def test_the_teacher_of_mmpretrain_is_dropped_and_reported():
    model = mmpretrains(PromptingDecoder, target_generator=nn.Linear(3, 3))
    converted, report = convert_state_dict(model.state_dict(), "milan_mm", "a.pth")
    assert not any("target_generator" in name for name in converted)
    assert report.dropped == ["target_generator.weight", "target_generator.bias"]
    assert "dropped      2 tensors of the teacher" in str(report)


def test_mmpretrain_fills_its_model_from_the_file_and_keeps_its_own_teacher(tmp_path: Path):
    ours = Ours(PromptingDecoder)
    torch.save(dict(state_dict=ours.state_dict()), tmp_path / "a.pth")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.pth", "mmpretrain")
    model = mmpretrains(PromptingDecoder, target_generator=nn.Linear(3, 3))
    teacher = model.target_generator.weight.clone()
    load_checkpoint(model, str(tmp_path / "b.pth"), "cpu")  # what its load_from does
    assert torch.equal(model.target_generator.weight, teacher)
    ours_again, _ = convert_state_dict(model.state_dict(), "milan_mm", "b.pth")
    assert_same_bits(ours_again, ours.state_dict())


def test_an_official_training_checkpoint_is_read_with_its_command_line(tmp_path: Path):
    checkpoint = dict(
        model=state_in("official"),
        optimizer=dict(state={}, param_groups=[dict(lr=1e-3)]),
        epoch=399,
        scaler=dict(scale=65536.0),
        args=Namespace(mask_ratio=0.75, output_dir=tmp_path, use_clip=True),
    )
    torch.save(checkpoint, tmp_path / "checkpoint-399.pth")
    report = convert_checkpoint(tmp_path / "checkpoint-399.pth", tmp_path / "b.pth", "milan_mm")
    assert report.left_behind == ["optimizer", "epoch", "scaler", "args"]
    assert "left behind  optimizer, epoch, scaler, args (weights only" in str(report)


def test_report_tells_layout_sizes_and_counts():
    state = state_in("mmpretrain")
    report = convert_state_dict(state, "official", "a.pth")[1]
    assert str(report).splitlines() == [
        "a.pth: layout mmpretrain",
        "  encoder      3 blocks 48 wide, patches of 8 pixels, 17 tokens",
        "  decoder      prompting decoder (MILAN), 2 blocks 32 wide, predicts 20 values per token",
        f"  converted    {len(state)} tensors, {sum(t.numel() for t in state.values()):,} values, "
        "to layout official",
        "  left behind  nothing (weights only: no optimizer state is converted)",
    ]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    torch.save(dict(model=state_in("official")), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"the old file")

    def break_off(checkpoint: dict, path: Path) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(converting.torch, "save", break_off)
    with pytest.raises(OSError, match="No space left"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.pth", "milan_mm")
    assert (tmp_path / "b.pth").read_bytes() == b"the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_new_file_has_the_permissions_of_any_new_file(suffix: str, tmp_path: Path):
    torch.save(dict(model=state_in("official")), tmp_path / "a.pth")
    convert_checkpoint(tmp_path / "a.pth", tmp_path / f"b{suffix}", "milan_mm")
    (tmp_path / "plain").touch()
    assert (tmp_path / f"b{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_source_is_not_overwritten(tmp_path: Path):
    torch.save(dict(model=state_in("official")), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth' is the source itself: give another name"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "." / "a.pth", "milan_mm")


def test_an_output_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"b\.npz' must end in one of \.pth, \.pt, \.safetensors"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.npz", "milan_mm")
