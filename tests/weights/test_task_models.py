"""The encoder inside a trained detector or segmentor of OpenMMLab, and what its config says."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmseg.models import MAE, BEiT
from mmseg.models import VisionTransformer as MMSegViT
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.inspecting import inspection
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.recognising import recognise
from tests.helpers import randomise
from tests.models.slow_resize import slow_resize
from tests.weights import zoo
from tests.weights.zoo import HEADS, D, noise, prefixed, timm_vit

OWN = dict(embed_dims=48, num_layers=3, num_heads=12, img_size=32, patch_size=8)
EPS = 1e-3  # large enough to matter


def segmentor(kind: type[nn.Module], **options) -> tuple[dict, nn.Module]:
    """A checkpoint of mmsegmentation, and its backbone."""
    model = randomise(kind(**OWN, **options))
    model.eval()  # returns nothing
    preprocessor = dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[127.5] * 3)
    backbone = dict(type=kind.__name__, **OWN, **options)
    cfg = dict(model=dict(backbone=backbone, data_preprocessor=preprocessor))
    state = prefixed(model.state_dict(), "backbone.") | {"decode_head.conv_seg.weight": noise(3)}
    return dict(state_dict=state, meta=dict(cfg=Config(cfg).pretty_text)), model


def featmap(encoder: Encoder, imgs: Tensor) -> Tensor:
    vit = PlainViT(**encoder.model_settings()).eval()
    report = load_encoder(vit, encoder)
    assert "finetuned         as part of a" in str(report)
    with torch.no_grad():
        return vit(imgs)[0]


SEGMENTORS: list[tuple[type[nn.Module], dict, str]] = [
    (MMSegViT, dict(norm_cfg=dict(type="LN", eps=EPS)), "mmsegmentation"),
    (MMSegViT, dict(patch_bias=True, final_norm=True, pre_norm=True), "mmsegmentation"),
    (MMSegViT, dict(interpolate_mode="bilinear"), "mmsegmentation"),
    (BEiT, dict(norm_cfg=dict(type="LN", eps=EPS)), "finetuned BEiT"),
    (MAE, dict(final_norm=True), "mmpretrain or milan_mm"),
]


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # mmsegmentation's
@pytest.mark.parametrize(("kind", "options", "system"), SEGMENTORS)
def test_a_backbone_of_mmsegmentation_is_read_as_its_config_says(
    kind: type[nn.Module], options: dict, system: str
):
    content, model = segmentor(kind, **options)
    encoder = recognise(content, "iter_1.pth")
    assert (encoder.system, encoder.stats) == (system, "half")
    assert encoder.settings["arch"]["num_heads"] == 12
    assert encoder.settings["norm_eps"] == (EPS if "norm_cfg" in options else 1e-5)
    assert encoder.assumed.keys() == {"pooling"}
    shapes = [(32, 32)] if kind is not MMSegViT else [(32, 32), (48, 24)]
    for shape in shapes:
        imgs = torch.randn(2, 3, *shape)
        with torch.no_grad():
            expected = model(imgs)[-1]
        torch.testing.assert_close(featmap(encoder, imgs), expected, rtol=1e-4, atol=1e-4)


def test_a_class_token_that_took_no_part_is_refused():
    content, _ = segmentor(MMSegViT, with_cls_token=False)
    with pytest.raises(ValueError, match="says with_cls_token=False: the class token"):
        recognise(content, "iter_1.pth")


def vitdet(**beside: Tensor) -> tuple[dict, Callable[[Tensor], Tensor], zoo.State]:
    """By timm's class for SAM, whose blocks are those of ViTDet."""
    own = dict(embed_dim=D, depth=4, num_heads=HEADS, img_size=64, patch_size=8)
    norm = partial(nn.LayerNorm, eps=1e-6)
    model = VisionTransformerSAM(
        **own, use_rel_pos=True, window_size=3, global_attn_indexes=(1, 3), norm_layer=norm
    )
    model = randomise(model).eval()
    table = noise(1, 1 + 4 * 4, D)  # of a pretraining at 32 pixels, with a class token
    model.pos_embed.data = slow_resize(table[:, 1:], (4, 4), (8, 8), "bicubic").unflatten(1, (8, 8))
    state = {n: t for n, t in model.state_dict().items() if n.startswith(("patch_", "blocks."))}

    def tokens(imgs: Tensor) -> Tensor:
        return model.blocks(model.patch_embed(imgs) + model.pos_embed).permute(0, 3, 1, 2)

    return state | dict(pos_embed=table), tokens, model.state_dict()


def in_detectron2(state: zoo.State) -> dict:
    heads = {"roi_heads.box_head.fc1.weight": noise(2), "proposal_generator.a": noise(2)}
    pyramid = {"backbone.simfp_2.0.weight": noise(2)}
    return dict(model=prefixed(state, "backbone.net.") | heads | pyramid, iteration=3)


def in_mmdetection(state: zoo.State) -> dict:
    heads = {"rpn_head.rpn_conv.weight": noise(2), "neck.lateral_convs.0.weight": noise(2)}
    return dict(state_dict=prefixed(state, "backbone.") | heads)


@pytest.mark.parametrize("around", [in_detectron2, in_mmdetection])
def test_the_encoder_of_vitdet_keeps_its_windows_and_relative_positions(around: Callable):
    state, tokens, _ = vitdet()
    encoder = recognise(around(state), "model_final.pth", num_heads=HEADS)
    assert encoder.system == "ViTDet" and encoder.finetuned.startswith("as part of a detector")
    assert encoder.dense == dict(rel_pos_grid=(8, 8), window_size=3, global_layers=(1, 3))
    vit = PlainViT(**encoder.model_settings(), **encoder.dense).eval()
    load_encoder(vit, encoder)
    imgs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(vit(imgs)[0], tokens(imgs), rtol=1e-4, atol=1e-4)
    text = inspection(encoder)
    assert "relative positions for 8x8 patches, in windows of 3x3" in text
    assert "segmentation  not possible: the shipped recipe has no place" in text


def test_the_config_of_mmdetections_vitdet_says_what_its_tables_do_not():
    """Its LayerNorm has mmcv's epsilon unless its config says otherwise."""
    backbone = dict(type="ViT", patch_size=8, depth=4, num_heads=12, norm_cfg=dict(type="LN"))
    preprocessor = dict(type="DetDataPreprocessor", mean=[127.5] * 3, std=[127.5] * 3)
    cfg = Config(dict(model=dict(backbone=backbone, data_preprocessor=preprocessor))).pretty_text
    encoder = recognise(in_mmdetection(vitdet()[0]) | dict(meta=dict(cfg=cfg)), "epoch_1.pth")
    assert (encoder.settings["norm_eps"], encoder.stats) == (1e-5, "half")
    assert encoder.settings["arch"]["num_heads"] == 12
    other = cfg.replace("type='ViT'", "type='MyViT'")  # anybody's, in timm's names
    assert recognise(in_mmdetection(vitdet()[0]) | dict(meta=dict(cfg=other)), "a.pth", num_heads=4)


def test_relative_positions_of_many_sizes_are_refused():
    state = vitdet()[0]
    state |= {f"blocks.2.attn.rel_pos_{axis}": noise(11, D // HEADS) for axis in "hw"}
    with pytest.raises(ValueError, match=r"are for grids of \[\(3, 3\), \(6, 6\), \(8, 8\)\]"):
        recognise(in_detectron2(state), "a.pth", num_heads=HEADS)


def test_sam_is_refused_by_its_neck():
    with pytest.raises(ValueError, match=r"'neck\.0\.weight': the neck of SAM"):
        recognise(vitdet()[2], "sam.pth")


TASKS: list[tuple[str, Callable[[], dict]]] = [
    ("detector", lambda: {"roi_head.bbox_head.0.fc_cls.weight": noise(3)}),
    ("detector", lambda: {"bbox_head.cls_convs.0.conv.weight": noise(3)}),
    ("segmentor", lambda: {"decode_head.conv_seg.weight": noise(3)}),
]


@pytest.mark.parametrize(("task", "beside"), TASKS)
@pytest.mark.parametrize("names", ["timm", "mmpretrain"])
def test_the_report_says_that_an_encoder_was_finetuned_in_a_task(
    names: str, task: str, beside: Callable
):
    state = timm_vit().state_dict() if names == "timm" else zoo.mmpretrain_layer_scale().content
    content = dict(state_dict=prefixed(state, "backbone.") | beside())
    encoder = recognise(content, "epoch_1.pth", num_heads=HEADS)
    assert encoder.layout == names
    assert f"\n  finetuned   as part of a {task}, not as its pretraining" in inspection(encoder)


def test_a_pretrained_encoder_was_finetuned_in_nothing():
    encoder = recognise(zoo.mae().content, "a.pth", num_heads=HEADS)
    assert not encoder.finetuned and "finetuned   " not in inspection(encoder)


def test_an_official_segmentor_still_needs_the_norm_that_its_pretraining_has():
    state = {n: t for n, t in timm_vit().state_dict().items() if not n.startswith("norm.")}
    with pytest.raises(ValueError, match=r"is missing .*backbone\.norm\.weight"):
        recognise(dict(state_dict=prefixed(state, "backbone.")), "a.pth")
    segmenting = prefixed(state, "backbone.") | {"decode_head.conv_seg.weight": noise(3, D)}
    encoder = recognise(dict(state_dict=segmenting), "a.pth", num_heads=HEADS)
    assert not encoder.settings["final_norm"] and encoder.system == "finetuned ViT"
