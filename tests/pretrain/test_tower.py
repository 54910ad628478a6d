"""The towers of open_clip and timm as teachers: the same answers, and strictness about weights."""

import argparse
import json

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from milan_mm.pretrain import teacher_timm
from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_clip import SHIPPED, CLIPTeacher
from milan_mm.pretrain.teacher_timm import TimmTeacher
from milan_mm.pretrain.tower import fold_quick_gelu
from tests.helpers import STATS, randomise, save_state, teacher_settings, tiny_vit

# In units of the standard deviation of what is expected.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
# Architectures of open_clip by their settings.
CLIPS = {
    "tiny": dict(quick_gelu=False),
    "tiny-quickgelu": dict(quick_gelu=True),
    "tiny-scaled": dict(quick_gelu=False, ls_init_value=0.5, no_ln_pre=True),
}
# Architectures of timm by the arguments of its `VisionTransformer`.
_SMALL = dict(img_size=64, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=0)
TOWERS = {
    "plain": _SMALL,
    "quick": _SMALL | dict(pre_norm=True, act_layer="quick_gelu"),
    "scaled": _SMALL | dict(init_values=0.5),
    "registers": _SMALL | dict(reg_tokens=3, no_embed_class=True),
    "placed registers": _SMALL | dict(reg_tokens=3),
    "pooled by attention": _SMALL | dict(class_token=False, global_pool="map"),
}


@pytest.fixture(scope="module", autouse=True)
def clips(tmp_path_factory) -> None:
    """Tells open_clip of `CLIPS`."""
    folder = tmp_path_factory.mktemp("open_clip")
    for name, settings in CLIPS.items():
        vision = dict(image_size=32, patch_size=8, layers=3, width=32, head_width=8)
        vision |= {key: value for key, value in settings.items() if key != "quick_gelu"}
        text = dict(context_length=8, vocab_size=10, width=16, heads=2, layers=1)
        config = dict(embed_dim=24, quick_gelu=settings["quick_gelu"])
        config |= dict(vision_cfg=vision, text_cfg=text)
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.fixture(autouse=True)
def towers(monkeypatch) -> None:
    """Lets `TimmTeacher` build `TOWERS` by their names."""
    for name, settings in TOWERS.items():
        monkeypatch.setitem(teacher_timm.SHIPPED_TOWERS, name, settings)


def clip(name: str) -> open_clip.CLIP:
    """Random weights with sharp attention, so that the importance differs between patches."""
    model = randomise(open_clip.create_model(name)).eval().requires_grad_(False)
    for block in model.visual.transformer.resblocks:
        block.attn.in_proj_weight.mul_(2)
    return model


def tower(name: str = "plain") -> VisionTransformer:
    model = randomise(VisionTransformer(**TOWERS[name])).eval().requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv.weight.mul_(8)
    return model


def clip_teacher(file: object, name: str = "tiny", **settings) -> HiddenTeacher:
    return HiddenTeacher(CLIPTeacher(**teacher_settings(str(file), model_name=name, **settings)))


def timm_teacher(file: object, name: str = "plain", **settings) -> HiddenTeacher:
    return HiddenTeacher(TimmTeacher(**teacher_settings(str(file), model_name=name, **settings)))


def answers(teacher: HiddenTeacher, imgs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return teacher(imgs)


def assert_near(ours: Tensor, expected: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Within the rounding of a type, on the average and at most ten times as much."""
    error = (ours.float() - expected).abs() / expected.std()
    assert error.square().mean().sqrt() < TOLERANCE[dtype]
    assert error.max() < 10 * TOLERANCE[dtype]


@every_dtype
@pytest.mark.parametrize("name", list(CLIPS))
def test_a_clip_answers_as_in_open_clip(name, dtype, tmp_path):
    model, seen = clip(name), []
    last = model.visual.transformer.resblocks[-1]
    last.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    imgs = torch.randn(2, 3, 32, 32)
    expected = model.encode_image(imgs)
    (args, kwargs) = seen[0]
    x = last.ln_1(args[0] if args else kwargs["q_x"])
    _, attention = last.attn(x, x, x)  # (B, 1+L, 1+L), averaged over heads
    teacher = clip_teacher(save_state(model.state_dict(), tmp_path), name)
    features, importance = answers(teacher, imgs, dtype)
    assert_near(features[:, 0], expected, dtype)
    assert_near(importance, attention[:, 0, 1:], dtype)


@every_dtype
@pytest.mark.parametrize("name", list(TOWERS))
def test_a_tower_answers_as_in_timm(name, dtype, tmp_path):
    model, seen = tower(name), []
    attn = model.blocks[-1].attn
    attn.fused_attn = False  # so that the matrix exists
    attn.attn_drop.register_forward_hook(lambda module, args, out: seen.append(out))
    imgs = torch.randn(2, 3, 64, 64)
    tokens, num_prefix = model.forward_features(imgs), model.num_prefix_tokens
    expected = torch.cat([tokens[:, : int(num_prefix > 0)], tokens[:, num_prefix:]], dim=1)
    teacher = timm_teacher(save_state(model.state_dict(), tmp_path), name)
    features, importance = answers(teacher, imgs, dtype)
    assert_near(features, expected, dtype)  # without registers
    if num_prefix:
        assert_near(importance, seen[0][:, :, 0, num_prefix:].mean(dim=1), dtype)
    else:
        assert importance is None
        assert not teacher.module.with_cls_token


def test_a_clip_of_another_grid_looks_at_resized_images(tmp_path):
    model, imgs = clip("tiny"), torch.randn(2, 3, 32, 32)
    file = save_state(model.state_dict(), tmp_path)
    features, importance = clip_teacher(file, grid_size=(7, 7))(imgs)
    assert importance.shape == (2, 49)
    larger = open_clip.create_model("tiny", pretrained=str(file), force_image_size=56).eval()
    expected = larger.encode_image(F.interpolate(imgs, (56, 56), mode="bicubic", antialias=True))
    assert_near(features[:, 0], expected.detach())


@pytest.mark.parametrize("name", ["plain", "placed registers"])
def test_a_tower_takes_any_grid(name, tmp_path):
    model, imgs = tower(name), torch.randn(2, 3, 32, 48)
    file = save_state(model.state_dict(), tmp_path)
    features, _ = timm_teacher(file, name, grid_size=(4, 6))(imgs)
    model.set_input_size((32, 48))
    assert_near(features[:, 1:], model.forward_features(imgs)[:, model.num_prefix_tokens :])


def test_a_file_may_have_positions_for_another_square(tmp_path):
    model = tower()
    model.set_input_size((40, 40))
    teacher = timm_teacher(save_state(model.state_dict(), tmp_path))
    model.set_input_size((64, 64))
    imgs = torch.randn(2, 3, 64, 64)
    assert_near(teacher(imgs)[0], model.forward_features(imgs))


# The files of CLIPs


def test_shipped_weights_load():
    teacher = CLIPTeacher(**teacher_settings("shipped"))
    assert (teacher.grid_size, teacher.target_dims) == ((12, 12), 128)
    expected = load_file(SHIPPED["shapes-clip"])["visual.proj"].T.float()
    assert torch.equal(teacher.projection.weight, expected)


def openai_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    scalars = dict(input_resolution=32, context_length=8, vocab_size=10)
    return state | {name: torch.tensor(value) for name, value in scalars.items()}


def test_a_file_of_openai_gives_the_features_of_its_weights(tmp_path):
    state = clip("tiny-quickgelu").half().state_dict()
    plain, file = save_state(state, tmp_path), save_state(openai_state(state), tmp_path, "clip.pt")
    imgs = torch.randn(1, 3, 32, 32)
    expected, _ = clip_teacher(plain, "tiny-quickgelu")(imgs)
    features, _ = clip_teacher(file, "tiny-quickgelu")(imgs)
    assert torch.equal(features, expected)


def test_settings_of_openai_inside_a_wrapper_name_its_activation_too(tmp_path):
    state = openai_state(clip("tiny-quickgelu").state_dict())
    file = save_state(dict(state_dict=state), tmp_path)
    with pytest.raises(ValueError, match="has GELU: use 'tiny-quickgelu'"):
        clip_teacher(file, "tiny")


@pytest.mark.filterwarnings("ignore:.*TorchScript:UserWarning")
def test_a_scripted_clip_that_is_not_openais_is_refused_with_a_remedy(tmp_path):
    class ImageEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = clip("tiny").visual.eval()

        def forward(self, imgs: Tensor) -> Tensor:
            return self.visual(imgs)

    torch.jit.trace(ImageEncoder(), torch.rand(1, 3, 32, 32)).save(tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"TorchScript.*save its state_dict"):
        clip_teacher(tmp_path / "clip.pt")


def test_a_file_of_openai_in_a_gelu_tower_is_refused(tmp_path):
    file = save_state(openai_state(clip("tiny-quickgelu").state_dict()), tmp_path)
    with pytest.raises(ValueError, match="has GELU: use 'tiny-quickgelu'"):
        clip_teacher(file, "tiny")


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-16", "openai", "QuickGELU.*'ViT-B-16' has GELU: use 'ViT-B-16-quickgelu'"),
        ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", "'laion2b_s34b_b88k' is not a known tag"),
        ("tiny", "", "has no weights: set teacher.pretrained"),
        ("tiny", None, "has no weights: set teacher.pretrained"),
        ("tiny", "no-such-tag", "weights 'no-such-tag'.*could not be loaded"),
        ("tiny", "missing/file.pt", "weights 'missing/file.pt'.*could not be loaded"),
        (
            "shapes-clip",
            "missing/file.pt",
            "'missing/file.pt'.*could not be loaded: .*no such file",
        ),
        ("tiny", "shipped", "no weights of tiny are shipped"),
        ("ViT-Z-99", "random", "teacher 'ViT-Z-99' is not an architecture of open_clip"),
        ("RN50", "random", "'RN50': .*PlainViT can express.*layers="),
        ("coca_ViT-B-32", "random", "PlainViT can express.*attentional_pool=True"),
        ("ViT-g-14", "random", "PlainViT can express.*mlp_ratio=4.36"),
        ("ViT-B-16-SigLIP", "random", "PlainViT can express.*timm_model_name=vit_base"),
    ],
)
def test_clips_that_are_unknown_or_no_plain_vits_are_refused(name, pretrained, message):
    with pytest.raises(ValueError, match=message):
        CLIPTeacher(**teacher_settings(pretrained, model_name=name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {n: t for n, t in state.items() if "visual" not in n}, "no .*encoder"),
        (lambda state: state | {"visual.ln_post.bias": torch.zeros(3)}, r"'ln1.bias' is \(3,\)"),
        (lambda state: state | {"visual.ln_2.bias": torch.zeros(3)}, "no place for ln_2.bias"),
        (lambda state: _without(state, "visual.ln_post.bias"), "missing ln_post.bias"),
        (lambda state: _without(state, "visual.proj"), "have no 'proj'"),
        (lambda state: _resized(state, 13), "positions for 12 patches, neither the 4x4"),
    ],
)
def test_a_file_that_does_not_fit_the_clip_is_refused(change, message, tmp_path):
    file = save_state(change(clip("tiny").state_dict()), tmp_path)
    with pytest.raises(ValueError, match=message):
        clip_teacher(file)


def _without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {n: t for n, t in state.items() if n != name}


def _resized(state: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    return state | {"visual.positional_embedding": torch.zeros(rows, 32)}


def test_a_damaged_file_is_refused(tmp_path):
    file = save_state(clip("tiny").state_dict(), tmp_path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"weights\.pth.*damaged"):
        clip_teacher(file)


# The files of timm, DINO and SLIP


@pytest.mark.parametrize("layout", ["timm", "deit", "dino", "slip"])
def test_files_of_every_layout_give_the_features_of_timm(layout, tmp_path):
    model = tower()
    weights = model.state_dict()
    dino = {f"backbone.{n}": t for n, t in weights.items()} | {"head.mlp.0.bias": torch.ones(3)}
    student = {f"module.{n}": -t for n, t in dino.items()}
    projection = torch.randn(32, 20)
    text = {"module.token_embedding.weight": torch.ones(2, 2), "module.positional_embedding": 0}
    slip = {f"module.visual.{n}": t for n, t in weights.items()} | text
    checkpoint = {
        "timm": weights | {"head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)},
        "deit": dict(model=weights),
        "dino": dict(student=student, teacher=dino, args=argparse.Namespace(lr=1.0), epoch=1),
        "slip": dict(state_dict=slip | {"module.image_projection": projection}),
    }[layout]
    file = save_state(checkpoint, tmp_path)
    teacher = timm_teacher(file, projection_dims=20 if layout == "slip" else None)
    imgs = torch.randn(2, 3, 64, 64)
    features, _ = teacher(imgs)
    expected = model.forward_features(imgs)
    if layout == "slip":
        expected = expected @ projection
    assert teacher.module.target_dims == features.shape[-1] == expected.shape[-1]
    assert_near(features, expected)


@pytest.mark.parametrize(
    ("width", "dims", "message"),
    [
        (32, None, r"32 to 20: set teacher\.projection_dims=20"),
        (32, 512, r"32 to 20: set teacher\.projection_dims=20"),
        (64, 20, "from width 64, teacher 'plain' is 32 wide"),
        (None, 512, r"not a SLIP file, remove teacher\.projection_dims=512"),
    ],
)
def test_a_projection_is_that_of_the_file_or_refused(width, dims, message, tmp_path):
    slip = {f"module.visual.{n}": t for n, t in tower().state_dict().items()}
    projection = {"module.image_projection": torch.ones(width, 20)} if width else {}
    file = save_state(slip | projection, tmp_path)
    with pytest.raises(ValueError, match=message):
        timm_teacher(file, projection_dims=dims)


@pytest.mark.parametrize("prefix", ["module.visual.", "module.base_encoder."])  # SLIP, MoCo v3
def test_a_small_vit_of_twelve_heads_is_not_taken_for_one_of_six(prefix, tmp_path):
    name = "vit_small_patch16_224"
    with torch.device("meta"):
        shapes = {
            n: t.shape for n, t in timm.create_model(name, num_classes=0).state_dict().items()
        }
    state = {prefix + n: torch.zeros(shape) for n, shape in shapes.items()}
    file = save_state(dict(state_dict=state), tmp_path)
    with pytest.raises(ValueError, match="have 12 attention heads; the architecture has 6"):
        TimmTeacher(**teacher_settings(str(file), model_name=name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: _without(w, "blocks.1.norm1.bias"), r"missing blocks\.1\.norm1\.bias"),
        (lambda w: w | {"dist_token": torch.zeros(1, 1, 32)}, "from a distilled ViT"),
        (lambda w: {f"{p}{n}": w[n] for n in w for p in ("visual.", "backbone.")}, "more than one"),
    ],
)
def test_a_file_that_does_not_fit_the_tower_is_refused(change, message, tmp_path):
    file = save_state(change(tower().state_dict()), tmp_path)
    with pytest.raises(ValueError, match=message):
        timm_teacher(file)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(model_name="vit_bass_patch16_224"), "'vit_bass_patch16_224' is not an architecture"),
        (dict(model_name="resnet18"), "'resnet18' is not a plain ViT: the model is a ResNet"),
        (dict(model_name="vit_small_patch16_18x2_224"), "is a ParallelThingsBlock"),
        (dict(model_name="vit_giant_patch14_dinov2"), "is not a plain ViT: .* is a GluMlp"),
        (dict(model_name="vit_so400m_patch14_siglip_224"), "not four times as wide"),
        (dict(model_name="vit_base_patch32_siglip_256"), "'blocks.0.mlp.act' is a GELUTanh"),
        (dict(model_name="deit_tiny_distilled_patch16_224"), "is a VisionTransformerDistilled"),
        (dict(model_name="vit_base_patch16_reg4_gap_256"), "normalises after average pooling"),
        (dict(pretrained="gone.pth"), "weights 'gone.pth' .*are not a file"),
        (dict(pretrained="shipped"), "no weights of plain are shipped"),
        (dict(pretrained=None), "weights 'None' .*are not a file: set teacher.pretrained"),
        (dict(pretrained="timm", projection_dims=8), "publishes no projection"),
    ],
)
def test_towers_that_are_unknown_or_no_plain_vits_are_refused(settings, message):
    defaults = dict(model_name="plain", pretrained="random", input_stats=STATS, stats=STATS)
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        TimmTeacher(**(defaults | settings))


def test_weights_that_timm_publishes_are_asked_for_by_name(monkeypatch):
    asked = []

    def without_network(name: str, pretrained: bool, **kwargs) -> nn.Module:
        asked.append((name, pretrained))
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(ValueError, match=r"'timm' of teacher .* no network - give the path"):
        timm_teacher("timm", "vit_tiny_patch16_224")
    assert asked == [("vit_tiny_patch16_224", True)]


@pytest.mark.parametrize(
    "options",
    [
        dict(rope_base=1e4, rope_kind="pe"),
        dict(rope_base=100.0, num_registers=2, with_pos_embed=False),
        dict(mlp_norm=True),
        dict(pool_heads=4, out_type="attn_pool"),
    ],
)
def test_a_folded_activation_changes_no_feature(options):
    vit = tiny_vit(**(dict(act="QuickGELU", out_type="raw") | options))
    imgs = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fold_quick_gelu(vit)(imgs)[0], vit(imgs)[0], rtol=1e-4, atol=1e-5)
