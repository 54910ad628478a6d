"""`milan_mm.load_encoder`: what it loads, what a call gives, and what it does without."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

import milan_mm
from milan_mm.errors import UserError
from milan_mm.evaluation.encoders import load_frozen_encoder
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.names import SHIPPED
from tests.encoder.kinds import encoder_of, images_of, weights_of
from tests.helpers import save_state, tiny_vit
from tests.weights import zoo


@pytest.mark.parametrize("kind", ["mae", "dinov2", "dinov3_timm", "openai_clip", "beit"])
def test_tokens_are_those_that_the_systems_own_code_computes(kind: str, tmp_path: Path):
    sample = zoo.SYSTEMS[kind](tmp_path)
    encoder = milan_mm.load_encoder(save_state(sample.content, tmp_path), num_heads=4)
    images = images_of(encoder, 2, zoo.SIDE, zoo.SIDE)
    with torch.no_grad():
        ours, theirs = encoder(images), sample.tokens(images)
    joined = torch.cat([ours.cls_token[:, None], ours.registers, ours.patch_tokens], dim=1)
    torch.testing.assert_close(joined, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["mae", "dinov2", "no class token"])
def test_every_part_has_the_shape_that_is_stated(kind: str, tmp_path: Path):
    encoder = encoder_of(kind, tmp_path)
    tokens = encoder(images_of(encoder, 2, 3, 5))
    width, registers = encoder.embed_dims, encoder.num_registers
    assert encoder.has_cls_token == (tokens.cls_token is not None)
    if tokens.cls_token is not None:
        assert tokens.cls_token.shape == (2, width)
    assert tokens.registers.shape == (2, registers, width)
    assert tokens.patch_tokens.shape == (2, 15, width)
    assert tokens.feature_map.shape == (2, width, 3, 5)
    assert torch.equal(tokens.feature_map.flatten(2).mT, tokens.patch_tokens)


def test_intermediate_blocks_are_those_asked_for_in_that_order(tmp_path: Path):
    encoder = encoder_of("mae", tmp_path)
    images = images_of(encoder, 1, 4, 4)
    last, first = encoder.intermediate(images, [-1, 0])
    assert torch.equal(last.patch_tokens, encoder(images).patch_tokens)
    raw = encoder.intermediate(images, [0], norm=False)[0]
    assert torch.equal(encoder.vit.ln1(raw.patch_tokens), first.patch_tokens)
    counted = encoder.intermediate(images, 2)
    assert torch.equal(counted[1].patch_tokens, last.patch_tokens) and len(counted) == 2


def test_blocks_that_are_not_there_are_refused(tmp_path: Path):
    encoder = encoder_of("mae", tmp_path)
    images = images_of(encoder, 1, 4, 4)
    with pytest.raises(ValueError, match=r"block 3 is outside -3\.\.2"):
        encoder.intermediate(images, [3])
    with pytest.raises(ValueError, match=r"blocks=4: give 1\.\.3"):
        encoder.intermediate(images, 4)


def test_features_follow_the_pooling_of_the_system(tmp_path: Path):
    for kind, pooling in (("dinov2", "cls"), ("mae", "mean"), ("finetuned_mae", "mean")):
        encoder = encoder_of(kind, tmp_path)
        images = images_of(encoder, 2, 4, 4)
        tokens, pooled = encoder(images), encoder.features(images)
        assert encoder.pooling == pooling
        expected = tokens.cls_token if pooling == "cls" else tokens.patch_tokens.mean(dim=1)
        if kind == "finetuned_mae":
            expected = encoder.vit.ln2(expected)
        torch.testing.assert_close(pooled, expected)


def test_a_size_given_at_loading_resizes_the_positions_once(tmp_path: Path):
    for kind in ("mae", "beit"):
        file = save_state(zoo.SYSTEMS[kind](tmp_path).content, tmp_path)
        free = milan_mm.load_encoder(file, num_heads=4)
        fixed = milan_mm.load_encoder(file, num_heads=4, img_size=48)
        assert fixed.img_size == (48, 48)
        images = torch.randn(1, 3, 48, 48)
        torch.testing.assert_close(fixed(images).patch_tokens, free(images).patch_tokens)


@pytest.mark.parametrize("kind", ["mae", "dinov2", "beit"])
def test_a_size_of_another_shape_may_have_as_many_patches_as_the_table(kind: str, tmp_path: Path):
    file = save_state(zoo.SYSTEMS[kind](tmp_path).content, tmp_path)
    free = milan_mm.load_encoder(file, num_heads=4)
    height, width = free.img_size
    fixed = milan_mm.load_encoder(file, num_heads=4, img_size=(height // 2, 2 * width))
    images = torch.randn(1, 3, *fixed.img_size)
    torch.testing.assert_close(fixed(images).patch_tokens, free(images).patch_tokens)


@pytest.mark.parametrize("tables", [dict(rel_pos_grid=(4, 4)), {}])
def test_a_detectors_encoder_keeps_its_windows_and_relative_positions(tables, tmp_path: Path):
    options = dict(window_size=2, global_layers=[1], with_cls_token=False, **tables)
    vit = tiny_vit(**options).eval()
    state = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    arch = dict(embed_dims=48, num_layers=3, num_heads=4)
    backbone = dict(type="milan_mm.PlainViT", arch=arch, img_size=32, patch_size=8, **options)
    meta = dict(cfg=f"model = {dict(backbone=backbone)!r}")
    checkpoint = save_state(dict(state_dict=state, meta=meta), tmp_path)
    export_encoder(checkpoint, tmp_path / "encoder.safetensors")
    images = torch.randn(1, 3, 40, 24)
    for file in (checkpoint, tmp_path / "encoder.safetensors"):
        assert torch.equal(milan_mm.load_encoder(file)(images).feature_map, vit(images)[0])
        frozen, _ = load_frozen_encoder(file)  # of k-NN and of figures
        assert torch.equal(frozen(images)[0].mT.unflatten(2, (5, 3)), vit(images)[0])


def test_gradients_flow_also_after_inference_mode(tmp_path: Path):
    encoder = encoder_of("beit", tmp_path)  # whose index of pairs is cached
    images = images_of(encoder, 1, 3, 7)
    with torch.inference_mode():
        encoder(images)
    encoder(images).patch_tokens.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.vit.layers.parameters())


def test_a_pickled_encoder_holds_its_weights_once(tmp_path: Path):
    encoder = encoder_of("mae", tmp_path)
    size = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
    assert len(pickle.dumps(encoder)) < 1.5 * size


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_encoder_loads_by_its_name(name: str):
    encoder = milan_mm.load_encoder(name)
    assert encoder.img_size == (96, 96) and not encoder.training
    assert encoder.mean == (0.485, 0.456, 0.406)  # of all four trainings


def test_names_are_filtered_by_parts_and_by_patterns():
    names = milan_mm.list_encoders()
    assert names[:2] == ["milan-mini-shapes", "mae-mini-shapes"]
    assert milan_mm.list_encoders("MINI") == names[:2]
    assert "timm:vit_base_patch16_224.dino" in milan_mm.list_encoders("timm:*base*dino")
    assert milan_mm.list_encoders("no such name") == []


def test_every_published_name_of_timm_is_an_architecture_of_timm():
    names = milan_mm.list_encoders("timm:*")
    assert len(names) > 150
    unknown = [n for n in names if not timm.is_model(n.removeprefix("timm:").partition(".")[0])]
    assert not unknown


def test_mistakes_are_said_in_a_line(tmp_path: Path):
    for source, options, message in (
        ("none.pth", {}, "'none.pth' does not exist"),
        ("milan-mini-shape", {}, "did you mean 'milan-mini-shapes'"),
        ("milan-mini-shapes", dict(device="tpu9x"), "device 'tpu9x'"),
        ("milan-mini-shapes", dict(img_size=100), "not a multiple of patch_size 8"),
        (save_state(zoo.mae().content, tmp_path), {}, "--num-heads"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            milan_mm.load_encoder(source, **options)
        assert "\n" not in str(error.value)


def test_preparation_equals_torchvisions(tmp_path: Path):
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    image = Image.effect_mandelbrot((200, 150), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    theirs = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToPILImage(),
            v2.Resize(110, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(96),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(encoder.mean), list(encoder.std)),
        ]
    )(image)
    assert (encoder.preprocess(image) - theirs).abs().mean() < 0.02
    image.save(tmp_path / "a.png")
    assert torch.equal(encoder.preprocess(tmp_path / "a.png"), encoder.preprocess(image))


def test_a_whole_picture_keeps_its_shape_up_to_a_patch():
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    assert encoder.preprocess(Image.new("L", (300, 200)), size=64, crop=False).shape == (3, 64, 96)
    with pytest.raises(ValueError, match="size 65x65 is not a multiple of the patch size 8"):
        encoder.preprocess(Image.new("RGB", (300, 200)), size=65)


def test_of_16_bits_the_upper_8_are_taken():
    grey = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    found, expected = (
        encoder.preprocess(Image.fromarray(array), size=8, crop=False)
        for array in (grey, (grey >> 8).astype(np.uint8))
    )
    assert torch.equal(found, expected)
    with pytest.raises(ValueError, match="a picture of mode 'F'"):
        encoder.preprocess(Image.fromarray(grey.astype(np.float32)))


def test_a_picture_is_turned_upright():
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.info["exif"] = exif.tobytes()
    turned = Image.open(_saved(image, exif))
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    assert encoder.preprocess(turned, size=32, crop=False).shape == (3, 64, 32)


def _saved(image: Image.Image, exif: Image.Exif):
    from io import BytesIO

    file = BytesIO()
    image.save(file, "JPEG", exif=exif)
    file.seek(0)
    return file


def test_the_weights_are_kept_with_what_is_known_of_them(tmp_path: Path):
    weights = weights_of("dinov2", tmp_path)
    encoder = encoder_of("dinov2", tmp_path)
    assert encoder.system == weights.system == "DINOv2"
    assert (encoder.num_blocks, encoder.num_heads, encoder.patch_size) == (3, 4, 8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 96, 96), r"shape \(3, 96, 96\): give \(B, 3, H, W\)"),
        (torch.zeros(1, 1, 96, 96), r"shape \(1, 1, 96, 96\): give \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 96, 96, dtype=torch.uint8), "torch.uint8, not normalised: give"),
        (torch.zeros(1, 3, 96, 96, dtype=torch.float64), r"give images\.to\(torch\.float32\)"),
        (np.zeros((1, 3, 96, 96), np.float32), "a ndarray, not a tensor: give"),
    ],
)
def test_images_of_another_shape_or_type_are_refused_in_a_line(images, message: str):
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    for call in (encoder, encoder.intermediate, encoder.features):
        with pytest.raises(UserError, match=message) as error:
            call(images)
        assert "\n" not in str(error.value)


def test_autocast_takes_images_of_half_precision():
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        tokens = encoder(torch.zeros(1, 3, 96, 96, dtype=torch.bfloat16))
    assert tokens.patch_tokens.shape == (1, 144, encoder.embed_dims)


def test_an_array_in_rgb_is_prepared_as_the_picture_is():
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    assert torch.equal(encoder.preprocess(array), encoder.preprocess(Image.fromarray(array)))


def test_what_is_not_a_picture_is_refused_in_a_line(tmp_path: Path):
    (tmp_path / "text.png").write_text("not a picture")
    encoder = milan_mm.load_encoder("milan-mini-shapes")
    for image, message in (
        (tmp_path / "none.png", r"picture '.*none\.png' does not exist"),
        (tmp_path / "text.png", r"picture '.*text\.png' cannot be read"),
        (np.zeros((8, 8, 3)), r"an array \(8, 8, 3\) of float64 is not a picture: give a path"),
        (torch.zeros(3, 8, 8), "a Tensor is not a picture: give a path"),
    ):
        with pytest.raises(UserError, match=message) as error:
            encoder.preprocess(image)
        assert "\n" not in str(error.value)


def test_positions_of_no_square_grid_are_not_saved(tmp_path: Path):
    encoder = milan_mm.load_encoder("milan-mini-shapes", img_size=(64, 96))
    with pytest.raises(UserError, match=r"loaded for images of 64x96.* load it without img_size"):
        encoder.save(tmp_path / "mine.safetensors")
    assert not list(tmp_path.iterdir())
