"""Loading an encoder: everything arrives, or the error names what did not."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from milan_mm.models.plain_vit import PlainViT
from milan_mm.models.positions import resize_pos_embed
from milan_mm.registry import MODELS
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder
from tests.helpers import milan_config, randomise, save_state, tiny_vit


def dense_vit(**settings) -> PlainViT:
    """As detection builds it: no class token, no final norm."""
    return tiny_vit(with_cls_token=False, final_norm=False, **settings)


def assert_untouched(vit: PlainViT, before: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.state_dict().items())


def refuse(vit: PlainViT, state: dict[str, torch.Tensor], folder, message: str) -> None:
    """The file is refused with this message, and the model is left as it was."""
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_encoder(vit, save_state(state, folder))
    assert_untouched(vit, before)


def test_every_tensor_of_the_same_encoder_arrives(tmp_path):
    source, vit = tiny_vit(), tiny_vit()
    report = load_encoder(vit, save_state(source.state_dict(), tmp_path))
    assert_untouched(vit, source.state_dict())
    assert sorted(report.loaded) == sorted(source.state_dict())
    assert not (report.resized or report.initialised or report.dropped)


def without(name: str) -> dict[str, torch.Tensor]:
    return {n: tensor for n, tensor in tiny_vit().state_dict().items() if n != name}


# `test_strictness.py` goes through all tensors of all layouts; these leave the model as it was
def test_a_missing_tensor_is_refused_by_name(tmp_path):
    refuse(tiny_vit(), without("ln1.bias"), tmp_path, r"is missing .*ln1\.bias")


@pytest.mark.parametrize("build", [tiny_vit, dense_vit])
def test_a_renamed_tensor_is_refused_by_name(tmp_path, build):
    name = "layers.1.ffn.layers.1.weight"
    state = without(name) | {f"{name}_v2": tiny_vit().state_dict()[name]}
    refuse(build(), state, tmp_path, name)


def test_a_renamed_class_token_is_refused_where_none_is_wanted(tmp_path):
    state = without("cls_token") | {"cls_token_v2": torch.randn(1, 1, 48)}
    refuse(dense_vit(), state, tmp_path, "has unknown .*cls_token_v2")


def test_a_tensor_of_another_shape_is_refused_by_name(tmp_path):
    state = tiny_vit().state_dict() | {"layers.2.ln2.weight": torch.ones(96)}
    message = r"'layers\.2\.ln2\.weight' is .* the model needs .*another architecture"
    refuse(tiny_vit(), state, tmp_path, message)


def test_a_missing_norm_of_a_block_is_not_taken_for_that_after_the_pooling(tmp_path):
    encoder = read_encoder(save_state(tiny_vit().state_dict(), tmp_path))
    del encoder.state_dict["layers.1.ln2.weight"]
    with pytest.raises(ValueError, match=r"is missing .*layers\.1\.ln2\.weight"):
        load_encoder(tiny_vit(), encoder)


def test_a_deeper_encoder_is_refused(tmp_path):
    deeper = tiny_vit(arch=dict(embed_dims=48, num_layers=4, num_heads=4))
    refuse(tiny_vit(), deeper.state_dict(), tmp_path, r"has unknown .*layers\.3\..* and 7 more")


def test_a_shallower_encoder_is_refused(tmp_path):
    shallower = tiny_vit(arch=dict(embed_dims=48, num_layers=2, num_heads=4))
    refuse(tiny_vit(), shallower.state_dict(), tmp_path, r"is missing .*layers\.2\.")


def test_a_file_without_an_encoder_is_refused_with_its_first_names(tmp_path):
    state = {"stem.weight": torch.ones(2)}
    refuse(tiny_vit(), state, tmp_path, r"holds no plain-ViT encoder .*names are: stem\.weight")


def test_a_model_with_unknown_parts_is_refused(tmp_path):
    state = {f"backbone.{n}": t for n, t in tiny_vit().state_dict().items()}
    state["surprise.weight"] = torch.ones(2)
    refuse(tiny_vit(), state, tmp_path, r"has unknown .*surprise\.weight")


@pytest.mark.parametrize("part", ["roi_head", "decode_head", "neck", "decoder"])
def test_heads_and_necks_around_the_encoder_are_left_aside(tmp_path, part):
    source = tiny_vit()
    state = {f"backbone.{n}": t for n, t in source.state_dict().items()}
    vit = tiny_vit()
    load_encoder(vit, save_state(state | {f"{part}.weight": torch.ones(2)}, tmp_path))
    assert_untouched(vit, source.state_dict())


def test_the_norm_after_pooling_may_start_afresh(tmp_path):
    vit = tiny_vit(out_type="avg_featmap")
    report = load_encoder(vit, save_state(tiny_vit().state_dict(), tmp_path))
    assert report.initialised == ["ln2.weight", "ln2.bias"]


def test_dense_encoder_drops_class_token_and_final_norm_and_says_so(tmp_path):
    report = load_encoder(dense_vit(), save_state(tiny_vit().state_dict(), tmp_path))
    assert sorted(report.dropped) == ["cls_token", "ln1.bias", "ln1.weight"]
    assert not report.initialised


@pytest.mark.parametrize("with_cls_token", [False, True])
def test_position_table_is_resized_and_reported(tmp_path, with_cls_token):
    source = tiny_vit()
    vit = tiny_vit(img_size=(48, 24), with_cls_token=with_cls_token)
    report = load_encoder(vit, save_state(source.state_dict(), tmp_path))
    expected = resize_pos_embed(source.pos_embed, (4, 4), (6, 3))
    assert torch.equal(vit.pos_embed, expected if with_cls_token else expected[:, 1:])
    rows = 19 if with_cls_token else 18
    assert report.resized == [f"pos_embed (1, 17, 48) to (1, {rows}, 48)"]


def test_table_that_fits_two_grids_is_refused(tmp_path):
    vit = tiny_vit(img_size=(16, 64))  # 2x8 patches, as many as 4x4
    refuse(vit, tiny_vit().state_dict(), tmp_path, "a grid of 4x4 or of 2x8: give the model")


def test_non_square_table_of_another_size_is_refused(tmp_path):
    refuse(
        tiny_vit(),
        tiny_vit(img_size=(24, 64)).state_dict(),
        tmp_path,
        "'pos_embed' has 25 rows, none",
    )


def test_half_precision_file_fills_a_float32_model(tmp_path):
    state = {name: tensor.half() for name, tensor in tiny_vit().state_dict().items()}
    vit = tiny_vit()
    load_encoder(vit, save_state(state, tmp_path))
    assert {tensor.dtype for tensor in vit.state_dict().values()} == {torch.float32}


def test_init_cfg_loads_the_weights(tmp_path):
    source = tiny_vit()
    file = save_state(source.state_dict(), tmp_path)
    init_cfg = dict(type="milan_mm.EncoderWeights", checkpoint=str(file))
    vit = tiny_vit(init_cfg=init_cfg)
    vit.init_weights()
    assert_untouched(vit, source.state_dict())


def test_report_lists_what_became_of_the_tensors(tmp_path):
    vit = dense_vit(img_size=48)
    text = str(load_encoder(vit, save_state(tiny_vit().state_dict(), tmp_path)))
    assert "weights.pth" in text
    assert "resized        1  pos_embed (1, 17, 48) to (1, 36, 48)" in text
    assert "dropped        3  cls_token" in text


@pytest.fixture(scope="module")
def training_checkpoint(tmp_path_factory) -> tuple[PlainViT, str]:
    """A MILAN that mmengine trained for two iterations and saved, with all that it saves."""
    work_dir = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = randomise(MODELS.build(milan_config()))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    images = [dict(inputs=torch.rand(3, 96, 96) * 255, data_samples=0) for _ in range(4)]
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader(images, batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=OptimWrapper(optimizer),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)),
        log_level="ERROR",
        experiment_name="test_loading",
    )
    runner.train()
    return model.backbone.eval(), str(work_dir / "epoch_1.pth")


def test_training_checkpoint_holds_log_and_optimizer_but_no_teacher(training_checkpoint):
    checkpoint = read_checkpoint(training_checkpoint[1])
    assert {"state_dict", "optimizer", "message_hub", "meta"} <= checkpoint.keys()
    assert not [name for name in checkpoint["state_dict"] if "teacher" in name]


def test_training_checkpoint_gives_a_segmentor_equal_features(training_checkpoint):
    source, file = training_checkpoint
    arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    vit = PlainViT(arch, img_size=96, patch_size=8, final_norm=False, out_indices=(0, 1)).eval()
    load_encoder(vit, file)
    imgs = torch.randn(2, 3, 96, 96)
    x = source._prepend_tokens(source.embed(imgs))
    for layer, out in zip(source.layers, vit(imgs), strict=True):
        x = layer(x)
        torch.testing.assert_close(out.flatten(2).transpose(1, 2), x[:, 1:])


def test_training_checkpoint_gives_a_detector_equal_features(training_checkpoint):
    source, file = training_checkpoint
    arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    vit = PlainViT(arch, img_size=96, patch_size=8, with_cls_token=False, final_norm=False).eval()
    load_encoder(vit, file)
    imgs = torch.randn(2, 3, 96, 96)
    x = source.embed(imgs)  # detection has no class token
    for layer in source.layers:
        x = layer(x)
    torch.testing.assert_close(vit(imgs)[0].flatten(2).transpose(1, 2), x)


def windowed_vit(**settings) -> PlainViT:
    return dense_vit(window_size=2, global_layers=(1,), **settings)


def test_relative_positions_start_fresh_where_the_file_has_none(tmp_path):
    vit = windowed_vit(rel_pos_grid=4)
    before = {n: t.clone() for n, t in vit.state_dict().items() if "rel_pos" in n}
    report = load_encoder(vit, save_state(tiny_vit().state_dict(), tmp_path))
    assert report.initialised == list(before)
    assert_untouched(vit, vit.state_dict() | before)


def test_relative_positions_of_a_detector_arrive(tmp_path):
    source, vit = windowed_vit(rel_pos_grid=4), windowed_vit(rel_pos_grid=4)
    report = load_encoder(vit, save_state(source.state_dict(), tmp_path))
    assert_untouched(vit, source.state_dict())
    assert not report.initialised


def test_relative_positions_of_another_grid_are_resized_linearly(tmp_path):
    source, vit = windowed_vit(rel_pos_grid=4), windowed_vit(rel_pos_grid=8)
    report = load_encoder(vit, save_state(source.state_dict(), tmp_path))
    table = source.layers[1].attn.rel_pos_h
    resized = torch.nn.functional.interpolate(table.T[None], size=15, mode="linear")[0].T
    assert torch.equal(vit.layers[1].attn.rel_pos_h, resized)
    assert [line.split()[0] for line in report.resized] == [
        "layers.1.attn.rel_pos_h",
        "layers.1.attn.rel_pos_w",
    ]


def test_a_single_missing_table_of_relative_positions_is_refused(tmp_path):
    state = windowed_vit(rel_pos_grid=4).state_dict()
    del state["layers.2.attn.rel_pos_w"]
    refuse(
        windowed_vit(rel_pos_grid=4), state, tmp_path, r"is missing .*layers\.2\.attn\.rel_pos_w"
    )


def test_relative_positions_that_the_model_has_no_place_for_are_refused(tmp_path):
    state = windowed_vit(rel_pos_grid=4).state_dict()
    refuse(windowed_vit(), state, tmp_path, r"has unknown .*rel_pos.* and 1 more")
