"""timm's ViT as a teacher: DINO and SLIP files, registers, towers without a class token."""

import argparse

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_timm import SHIPPED, TimmTeacher
from tests.helpers import STATS, randomise, save_state

NAME = "vit_tiny_patch16_224"
REGISTERS = "vit_small_patch14_reg4_dinov2"
NO_CLASS_TOKEN = "vit_base_patch16_siglip_224"
GRID = (4, 6)


def settings(pretrained: str = "random", **changes) -> dict:
    stats = dict(input_stats=STATS, stats=STATS)
    return dict(model_name=NAME, pretrained=pretrained, grid_size=GRID) | stats | changes


def build(*args, **changes) -> HiddenTeacher:
    return HiddenTeacher(TimmTeacher(**settings(*args, **changes)))


def tower_weights() -> dict[str, Tensor]:
    """Random weights under timm's names, for the tower's own 14x14 grid."""
    return randomise(timm.create_model(NAME, num_classes=0)).state_dict()


def own_features(weights: dict[str, Tensor], imgs: Tensor) -> Tensor:
    """timm's own answer: all tokens after the norm, positions resized by timm."""
    tower = timm.create_model(NAME, num_classes=0).eval()
    tower.load_state_dict(weights)
    tower.set_input_size(imgs.shape[-2:])
    with torch.no_grad():
        return tower.forward_features(imgs)


@pytest.fixture(scope="module")
def imgs() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [NAME, REGISTERS])
def test_importance_is_the_class_row_of_the_attention_matrix(name):
    teacher = build(model_name=name)
    randomise(teacher.module).requires_grad_(False)
    tower, seen = teacher.module.visual, []
    attn = tower.blocks[-1].attn
    attn.fused_attn = False  # so that the matrix exists
    attn.attn_drop.register_forward_hook(lambda module, args, out: seen.append(out))
    _, importance = teacher(torch.randn(2, 3, *teacher.module.image_size))
    expected = seen[-1][:, :, 0, tower.num_prefix_tokens :].mean(dim=1)
    assert importance.shape == (2, 24)
    torch.testing.assert_close(importance, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layout", ["timm", "deit", "dino", "slip"])
def test_files_of_every_layout_give_the_features_of_timm(layout, imgs, tmp_path):
    weights = tower_weights()
    tower = {f"backbone.{n}": t for n, t in weights.items()} | {"head.mlp.0.bias": torch.ones(3)}
    student = {f"module.{n}": -t for n, t in tower.items()}
    projection = torch.randn(192, 20)
    text = {"module.token_embedding.weight": torch.ones(2, 2), "module.positional_embedding": 0}
    slip = {f"module.visual.{n}": t for n, t in weights.items()} | text
    checkpoint = {
        "timm": weights | {"head.weight": torch.ones(10, 192), "head.bias": torch.ones(10)},
        "deit": dict(model=weights),
        "dino": dict(student=student, teacher=tower, args=argparse.Namespace(lr=1.0), epoch=1),
        "slip": dict(state_dict=slip | {"module.image_projection": projection}),
    }[layout]
    file = str(save_state(checkpoint, tmp_path))
    teacher = build(file, projection_dims=20 if layout == "slip" else None)
    features, _ = teacher(imgs)
    expected = own_features(weights, imgs)
    if layout == "slip":
        expected = expected @ projection
    assert teacher.module.target_dims == features.shape[-1] == expected.shape[-1]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_the_shipped_slip_fills_tower_and_projection():
    shipped = load_file(SHIPPED["vit_shapes_patch8_96"])
    teacher = build("shipped", model_name="vit_shapes_patch8_96", projection_dims=128).module
    torch.testing.assert_close(
        teacher.projection.weight, shipped["image_projection"].T.float(), rtol=0, atol=0
    )
    for name, tensor in teacher.visual.state_dict().items():
        if name != "pos_embed":  # resized to the grid
            assert torch.equal(tensor, shipped[f"visual.{name}"].float()), name


def test_registers_are_no_part_of_the_target():
    teacher = build(model_name=REGISTERS)
    images = torch.randn(1, 3, *teacher.module.image_size)
    features, _ = teacher(images)
    with torch.no_grad():
        expected = teacher.module.visual.forward_features(images)  # class, 4 registers, patches
    torch.testing.assert_close(features, expected[:, [0, *range(5, 29)]])


def test_tower_without_class_token_gives_a_target_but_no_importance():
    teacher = build(model_name=NO_CLASS_TOKEN)
    images = torch.randn(1, 3, 64, 96)
    features, importance = teacher(images)
    with torch.no_grad():
        expected = teacher.module.visual.forward_features(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert importance is None
    assert not teacher.module.with_cls_token


def test_target_of_several_layers_is_their_mean(imgs):
    teacher = build(num_target_layers=3)
    tower, outputs = teacher.module.visual, []
    for block in tower.blocks:
        block.register_forward_hook(lambda module, args, out: outputs.append(out))
    features, _ = teacher(imgs)
    with torch.no_grad():
        expected = sum(tower.norm(x) for x in outputs[-3:]) / 3
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_a_slip_file_without_its_projection_switched_on_is_refused(tmp_path):
    slip = {f"module.visual.{n}": t for n, t in tower_weights().items()}
    file = save_state(slip | {"module.image_projection": torch.ones(192, 20)}, tmp_path)
    for dims in (None, 512):
        with pytest.raises(ValueError, match=r"192 to 20: set teacher\.projection_dims=20"):
            build(str(file), projection_dims=dims)


def test_a_slip_file_of_another_width_is_refused(tmp_path):
    slip = {f"module.visual.{n}": t for n, t in tower_weights().items()}
    file = save_state(slip | {"module.image_projection": torch.ones(64, 20)}, tmp_path)
    with pytest.raises(ValueError, match=f"from width 64, teacher '{NAME}' is 192 wide"):
        build(str(file), projection_dims=20)


def test_projection_dims_for_a_file_without_projection_are_refused(tmp_path):
    file = save_state(tower_weights(), tmp_path)
    with pytest.raises(ValueError, match=r"no SLIP file, remove teacher\.projection_dims=512"):
        build(str(file), projection_dims=512)


def test_missing_tensors_are_named(tmp_path):
    weights = tower_weights()
    del weights["blocks.3.norm1.bias"]
    with pytest.raises(ValueError, match=r"does not fit the teacher: .*blocks\.3\.norm1\.bias"):
        build(str(save_state(weights, tmp_path)))


def test_a_file_with_two_towers_is_refused(tmp_path):
    both = {f"{p}{n}": t for n, t in tower_weights().items() for p in ("visual.", "backbone.")}
    with pytest.raises(ValueError, match="holds 2 image towers"):
        build(str(save_state(both, tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model_name="vit_bass_patch16_224"), "'vit_bass_patch16_224' is no architecture"),
        (dict(model_name="vit_small_patch16_18x2_224"), "is no plain ViT"),
        (dict(model_name="vit_little_patch16_reg1_gap_256"), "normalises after average pooling"),
        (dict(model_name="resnet18"), "'resnet18' is no plain ViT"),
        (dict(model_name="swin_tiny_patch4_window7_224"), "is no plain ViT"),
        (dict(pretrained="gone.pth"), "weights 'gone.pth' .*are no file"),
        (dict(pretrained="shipped"), f"no weights of {NAME} are shipped"),
        (dict(pretrained=None), "weights 'None' .*are no file: set teacher.pretrained"),
        (dict(num_target_layers=13), "is 13, 'vit_tiny_patch16_224' has 12 blocks"),
    ],
)
def test_unknown_teachers_and_weights_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_weights_that_timm_publishes_are_asked_for_by_name(monkeypatch):
    asked = []

    def without_network(name: str, pretrained: bool, **kwargs) -> nn.Module:
        asked.append((name, pretrained))
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(ValueError, match=r"'timm' of teacher .* no network - give the path"):
        build("timm")
    assert asked == [(NAME, True)]
