"""Any encoder file as a teacher: timm's own attention, its own tokens, and errors in one line."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from milan_mm.pretrain.masking import SemanticMaskGenerator, split_patches
from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_encoder import EncoderTeacher
from milan_mm.registry import MODELS
from milan_mm.weights.names import ASSETS
from tests.helpers import STATS, milan_config, save_state, teacher_settings
from tests.weights import zoo

CLIP_FILE = ASSETS / "shapes_clip.safetensors"
EVA = dict(qkv_fused=False, swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True)
# Small models of timm: how it names them, and where it looks when it makes one vector of an image.
MODELS_OF_TIMM = {
    "SigLIP 2": (partial(zoo.timm_vit, class_token=False, global_pool="map"), "pool"),
    "DINOv3": (partial(zoo.timm_dinov3, qkv_bias=True), "cls"),
    "EVA-CLIP": (
        partial(zoo.timm_eva, ref_feat_shape=(16, 16), global_pool="token", mlp_ratio=8 / 3, **EVA),
        "cls",
    ),
    "DINOv2 with registers": (
        partial(zoo.timm_vit, reg_tokens=4, no_embed_class=True, init_values=0.5),
        "cls",
    ),
}
every_model = pytest.mark.parametrize("name", list(MODELS_OF_TIMM))


def sharp(name: str) -> nn.Module:
    """With attention that differs between patches."""
    torch.manual_seed(0)
    model = MODELS_OF_TIMM[name][0]().requires_grad_(False)
    for part, parameter in model.named_parameters():
        if "attn" in part and part.endswith("weight") and "norm" not in part:
            parameter.mul_(10)
        if part == "attn_pool.latent":
            parameter.mul_(30)
    return model


def teacher_of(model: nn.Module, folder, **settings) -> HiddenTeacher:
    file = save_state(model.state_dict(), folder)
    return HiddenTeacher(EncoderTeacher(str(file), STATS, num_heads=zoo.HEADS, **settings))


def attention_of_timm(model: nn.Module, imgs: Tensor, source: str, monkeypatch) -> Tensor:
    """What timm itself computes for an image's vector: (B, N), mean over the heads."""
    logits = []

    def keep(attention: Tensor, mask: Tensor | None) -> Tensor:
        logits.append(attention)
        return attention

    for module in ("attention", "attention_pool"):
        monkeypatch.setattr(f"timm.layers.{module}.maybe_add_mask", keep)
    monkeypatch.setattr("timm.models.eva.maybe_add_mask", keep)
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    model(imgs)
    assert len(logits) == zoo.LAYERS + (source == "pool")
    return logits[-1].softmax(dim=-1)[:, :, 0].mean(dim=1)


@every_model
def test_importance_and_features_are_those_of_timm(name, tmp_path, monkeypatch):
    model, source = sharp(name), MODELS_OF_TIMM[name][1]
    side = zoo.SIDE * zoo.PATCH
    imgs = torch.randn(2, 3, side, side)
    teacher = teacher_of(model, tmp_path, stats=STATS, grid_size=(zoo.SIDE, zoo.SIDE))
    features, importance = teacher(imgs)
    assert teacher.module.importance_from == source
    attention = attention_of_timm(model, imgs, source, monkeypatch)[:, model.num_prefix_tokens :]
    expected = attention / attention.sum(dim=1, keepdim=True)
    assert expected.std() > 0.01  # patches differ
    torch.testing.assert_close(importance, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.importance(imgs), importance)
    patches = model.forward_features(imgs)[:, model.num_prefix_tokens :]
    torch.testing.assert_close(features[:, -(zoo.SIDE**2) :], patches, rtol=1e-4, atol=1e-4)
    assert features.shape[1] == zoo.SIDE**2 + (source == "cls")  # registers are left out


def test_leaving_registers_out_changes_no_draw():
    attention = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    noise = -torch.empty(3, 20).exponential_().log()
    shares = attention / attention.sum(dim=1, keepdim=True)
    for few, whole in zip(
        split_patches(shares, noise, 5), split_patches(attention, noise, 5), strict=True
    ):
        assert torch.equal(few, whole)


def test_sinks_cost_a_kept_patch_each_and_leave_the_order_of_the_others():
    attention = torch.rand(8, 60, generator=torch.Generator().manual_seed(0))
    noise = -torch.empty(8, 60).exponential_(generator=torch.Generator().manual_seed(1)).log()
    sinks = attention.clone()
    sinks[:, :2] = 1000.0  # two patches take nearly all of it
    plain, _ = split_patches(attention[:, 2:], noise[:, 2:], 15)
    kept, _ = split_patches(sinks, noise, 15)
    assert (kept[:, :2] < 2).all()
    assert torch.equal(kept[:, 2:] - 2, plain[:, :13])


def test_a_clip_with_its_projection_is_the_clip_teacher_bit_for_bit():
    imgs = torch.randn(2, 3, 96, 96)
    clip = HiddenTeacher(MODELS.build(teacher_settings("shipped", type="milan_mm.CLIPTeacher")))
    ours = HiddenTeacher(EncoderTeacher(str(CLIP_FILE), STATS, STATS, projection="visual.proj"))
    (expected, attention), (features, importance) = clip(imgs), ours(imgs)
    assert torch.equal(features, expected)
    assert torch.equal(importance, attention / attention.sum(dim=1, keepdim=True))
    assert ours.module.target_dims == clip.module.target_dims == 128


def test_statistics_and_size_follow_the_file(tmp_path):
    teacher = teacher_of(sharp("SigLIP 2"), tmp_path, grid_size=(6, 5)).module
    assert teacher.image_size == (6 * zoo.PATCH, 5 * zoo.PATCH)
    raw = torch.rand(1, 3, 48, 40) * 255
    mean, std = (torch.tensor(STATS[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(teacher._adapt((raw - mean) / std), raw / 127.5 - 1)  # SigLIP's


def test_a_teacher_without_class_token_samples_by_its_pooling_and_teaches_the_patches(tmp_path):
    file = save_state(sharp("SigLIP 2").state_dict(), tmp_path)
    config = milan_config("SemanticMaskGenerator")
    config["decoder"]["target_dims"] = zoo.D
    config["head"]["teacher"] = dict(
        type="milan_mm.EncoderTeacher",
        pretrained=str(file),
        num_heads=zoo.HEADS,
        input_stats=STATS,
        grid_size=(12, 12),
    )
    model = MODELS.build(config)
    assert isinstance(model.mask_generator, SemanticMaskGenerator)
    loss = model.loss(torch.randn(2, 3, 96, 96))["loss"]
    assert 0 < loss.item() < 4
    assert not [name for name, _ in model.named_parameters() if "teacher" in name]


def test_the_students_start_does_not_depend_on_the_teacher(tmp_path):
    file = save_state(sharp("DINOv3").state_dict(), tmp_path)
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    EncoderTeacher(str(file), STATS, num_heads=zoo.HEADS)
    assert torch.equal(torch.randn(3), expected)


def test_an_architecture_of_timm_stands_in_for_its_file_without_memory():
    with torch.device("meta"):
        teacher = EncoderTeacher(
            "random", STATS, model_name="vit_small_patch16_dinov3.lvd1689m", grid_size=(12, 12)
        )
    assert (teacher.importance_from, teacher.target_dims) == ("cls", 384)
    assert teacher.vit.options.num_registers == 4
    assert teacher.vit.cls_token.is_meta


MISTAKES = {
    "'pool', and .* has no attention pooling: set it to 'cls'": dict(importance="pool"),
    "importance 'max' is unknown": dict(importance="max"),
    "no 'proj': set it to one of visual.proj": dict(projection="proj"),
    "'visual.positional_embedding' is of shape": dict(projection="visual.positional_embedding"),
    "is 6, .* has 5 blocks": dict(num_target_layers=6),
    "names no file": dict(pretrained="random"),
    "'vit_none' is not an architecture of timm": dict(pretrained="timm", model_name="vit_none"),
    "file 'no/such.pth' does not exist": dict(pretrained="no/such.pth"),
}


@pytest.mark.parametrize("message", list(MISTAKES))
def test_a_mistake_is_one_line(message):
    settings = dict(pretrained=str(CLIP_FILE), input_stats=STATS) | MISTAKES[message]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        EncoderTeacher(**settings)
    assert "\n" not in str(error.value)


def test_without_class_token_and_pooling_semantic_sampling_is_refused(tmp_path):
    model = zoo.timm_vit(class_token=False, global_pool="avg", fc_norm=False)
    config = milan_config("SemanticMaskGenerator")
    file = save_state(model.state_dict(), tmp_path)
    config["decoder"]["target_dims"] = zoo.D
    config["head"]["teacher"] = dict(
        type="milan_mm.EncoderTeacher", pretrained=str(file), num_heads=zoo.HEADS, input_stats=STATS
    )
    with pytest.raises(ValueError, match="teacher's patch grid is \\(4, 4\\), the backbone's"):
        MODELS.build(config)
    config["head"]["teacher"]["grid_size"] = (12, 12)
    with pytest.raises(ValueError, match="neither a class token nor an attention pooling"):
        MODELS.build(config)
