"""MILAN as a whole: gradients, combinations, what is refused, and that it learns."""

import re

import pytest
import torch
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from milan_mm.engine.optim import LayerDecayOptimWrapperConstructor
from milan_mm.pretrain.milan import MILAN
from milan_mm.registry import MODELS
from tests.helpers import milan_config, teacher_settings

COMBINATIONS = [
    (mask_generator, decoder, head)
    for mask_generator in ("SemanticMaskGenerator", "UniformMaskGenerator")
    for decoder in ("PromptingDecoder", "MAEDecoder")
    for head in ("CLIPTargetHead", "PixelTargetHead")
]


def build(*parts: str, **settings) -> MILAN:
    return MODELS.build(milan_config(*parts, **settings))


@pytest.mark.parametrize("parts", COMBINATIONS, ids=" ".join)
def test_every_trainable_parameter_gets_a_gradient(parts):
    model = build(*parts).train()
    model.loss(torch.randn(2, 3, 96, 96))["loss"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@pytest.mark.parametrize("decoder", ["PromptingDecoder", "MAEDecoder"])
def test_registers_help_the_encoder_and_rotary_positions_follow_the_kept_patches(decoder):
    """As of DINOv3's encoder; the decoder sees class token and patches only."""
    config = milan_config("SemanticMaskGenerator", decoder)
    config["backbone"] |= dict(num_registers=3, rope_base=100.0, with_pos_embed=False)
    model = MODELS.build(config).train()
    model.loss(torch.randn(2, 3, 96, 96))["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.backbone.parameters())
    imgs, ids_keep = torch.randn(1, 3, 96, 96), torch.tensor([[7, 143, 20]])
    latent = model.encode_kept(imgs, ids_keep)
    backwards = model.encode_kept(imgs, ids_keep.flip(1))
    assert latent.shape == (1, 4, 48)
    torch.testing.assert_close(backwards[:, 1:].flip(1), latent[:, 1:], rtol=1e-4, atol=1e-5)


def test_position_tables_are_all_that_is_frozen():
    frozen = [name for name, p in build().named_parameters() if not p.requires_grad]
    assert frozen == ["backbone.pos_embed", "decoder.decoder_pos_embed"]


def test_masked_pixels_do_not_reach_the_encoder():
    model = build().eval()
    imgs = torch.randn(1, 3, 96, 96)
    ids_keep = torch.arange(36).unsqueeze(0)  # the first three rows of patches
    changed = imgs.clone()
    changed[:, :, 24:] += 1
    for other in (imgs, changed):
        latent = model.backbone.encode(model.backbone.embed(other, ids_keep))
        if other is imgs:
            expected = latent
    assert torch.equal(latent, expected)


def test_teacher_takes_no_part_in_training():
    model = build().train()
    teacher = model.head.teacher.module
    model.loss(torch.randn(2, 3, 96, 96))["loss"].backward()
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None for p in teacher.parameters())


def test_teacher_is_in_neither_checkpoint_nor_optimizer():
    model = build()
    assert not [name for name in model.state_dict() if "teacher" in name or "visual" in name]
    constructor = LayerDecayOptimWrapperConstructor(
        dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)), dict(no_decay_1d=True)
    )
    optimizer = constructor(model).optimizer
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in model.head.teacher.module.parameters()}
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}


def test_initialisation_leaves_the_teacher_alone():
    model = build()
    before = {n: p.clone() for n, p in model.head.teacher.module.named_parameters()}
    model.init_weights()
    after = dict(model.head.teacher.module.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("decoder", ["PromptingDecoder", "MAEDecoder"])
def test_loss_falls_on_a_fixed_batch(decoder):
    model = build("SemanticMaskGenerator", decoder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    imgs = torch.randn(4, 3, 96, 96)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.loss(imgs)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_own_scope_wins_over_the_class_that_mmpretrain_registers():
    model = MMPRETRAIN_MODELS.build(milan_config())
    assert type(model) is MILAN
    assert MMPRETRAIN_MODELS.get("mmpretrain.MILAN") is not MILAN


def test_features_of_the_whole_image_are_the_backbone_s():
    model = build().eval()
    imgs = torch.randn(1, 3, 96, 96)
    out, expected = model(imgs, mode="tensor"), model.backbone(imgs)
    assert torch.equal(out[0], expected[0])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("decoder", dict(embed_dims=64), "decoder.embed_dims is 64, the backbone's width is 48"),
        ("decoder", dict(grid_size=(6, 6)), "decoder.grid_size is (6, 6), the backbone's grid"),
        ("decoder", dict(target_dims=64), "set decoder.target_dims=128"),
        ("backbone", dict(with_cls_token=False), "pretraining needs backbone.with_cls_token=True"),
        (
            "backbone",
            dict(rel_pos_bias_grid=4),
            "which need all patches of an image: leave out backbone.window_size",
        ),
        ("mask_generator", dict(mask_ratio=0.999), "mask_ratio 0.999 of 144 patches keeps 0"),
        ("mask_generator", dict(mask_ratio=1), "mask_ratio 1 is outside (0, 1)"),
    ],
)
def test_parts_that_disagree_are_refused(part, change, message):
    config = milan_config()
    config[part] |= change
    with pytest.raises(ValueError, match=re.escape(message)):
        MODELS.build(config)


def test_teacher_with_another_grid_is_refused():
    config = milan_config()
    config["backbone"]["patch_size"] = 16
    config["decoder"]["grid_size"] = (6, 6)
    message = r"teacher's patch grid is \(12, 12\), the backbone's is \(6, 6\)"
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize("size", [(80, 96), (128, 128)])
def test_images_of_another_size_are_refused(size):
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} pixels, but .*img_size is 96x96"):
        build().loss(torch.randn(1, 3, *size))


def test_pixels_with_another_patch_size_are_refused():
    config = milan_config("UniformMaskGenerator", "MAEDecoder", "PixelTargetHead")
    config["head"]["patch_size"] = 16
    config["decoder"]["target_dims"] = 768
    with pytest.raises(ValueError, match=r"head.patch_size is 16, the backbone's is 8"):
        MODELS.build(config)


def test_semantic_sampling_without_a_teacher_is_refused():
    config = milan_config("SemanticMaskGenerator", "MAEDecoder", "PixelTargetHead")
    del config["head"]["teacher"]
    with pytest.raises(ValueError, match="PixelTargetHead does not give because it has no teacher"):
        MODELS.build(config)


def without_class_token(mask_generator: str) -> dict:
    """MILAN with a teacher that has no class token."""
    config = milan_config(mask_generator)
    config["decoder"]["target_dims"] = 768
    config["head"]["teacher"] = teacher_settings(
        type="milan_mm.TimmTeacher",
        model_name="vit_base_patch16_siglip_224",
        grid_size=(12, 12),
    )
    return config


def test_semantic_sampling_by_a_teacher_without_class_token_is_refused():
    with pytest.raises(ValueError, match="because its teacher has neither a class token nor"):
        MODELS.build(without_class_token("SemanticMaskGenerator"))


def test_a_teacher_without_class_token_teaches_the_patches():
    model = MODELS.build(without_class_token("UniformMaskGenerator"))
    loss = model.loss(torch.randn(1, 3, 96, 96))["loss"]
    assert 0 < loss.item() < 4


@pytest.mark.parametrize("loss_tokens", ["all", "masked"])
@pytest.mark.parametrize("parts", COMBINATIONS, ids=" ".join)
def test_any_target_decoder_sampling_and_loss_tokens_build_together(parts, loss_tokens):
    config = milan_config(*parts)
    config["head"]["loss_tokens"] = loss_tokens
    loss = MODELS.build(config).loss(torch.randn(2, 3, 96, 96))["loss"]
    loss.backward()
    assert loss.isfinite()


def test_pixels_are_sampled_by_the_teacher_s_importance():
    pixels = build("SemanticMaskGenerator", "MAEDecoder", "PixelTargetHead")
    imgs = torch.randn(2, 3, 96, 96)
    target, importance = pixels.head.targets(imgs)
    assert torch.equal(importance, pixels.head.teacher.module(imgs)[1])
    assert target.shape == (2, 144, 192)
