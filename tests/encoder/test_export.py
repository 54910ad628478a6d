"""Exports: the library that a format is for loads it, computes the same, and we read it again."""

from pathlib import Path

import pytest
import timm
import torch

from milan_mm.encoder.export import writing
from milan_mm.encoder.export.checking import FORMATS
from milan_mm.encoder.export.writing import TOLERANCE, export
from milan_mm.encoder.loading import build
from milan_mm.errors import UserError
from milan_mm.weights.encoder import Encoder as Weights
from milan_mm.weights.recognising import read_encoder, recognise
from tests.encoder.kinds import weights_of
from tests.helpers import save_state, tiny_vit
from tests.models.parts import PARTS, checkpoint_of

TIMM = (
    "mae", "dinov2", "openai_clip", "dinov3_timm", "beit", "beit_finetuned", "finetuned_mae",
    "deit_distilled", "deit_iii", "cae",
)  # fmt: skip
OPENMMLAB = ("mae", "openai_clip", "hf_vit", "beit", "beit_finetuned", "finetuned_mae", "deit_iii")


def equal(found: Weights, expected: Weights, added: tuple[str, ...] = ()) -> bool:
    """Whether all tensors are the same, and what cannot be stated otherwise is stated."""
    assert found.stats == expected.stats
    if found.layout != "hf-beit":  # whose final norm decides on the pooling
        assert found.pooling == expected.pooling
    names = {name for name in found.state_dict if not name.endswith(added or "none")}
    return names == expected.state_dict.keys() and all(
        torch.equal(t, found.state_dict[n]) for n, t in expected.state_dict.items()
    )


def class_token(weights: Weights) -> torch.Tensor:
    """With its position."""
    table = weights.state_dict.get("pos_embed")
    return weights.state_dict["cls_token"] + (0 if table is None else table[:, :1])


@pytest.mark.parametrize("kind", TIMM)
def test_timm_loads_the_folder_and_computes_the_same(kind: str, tmp_path: Path):
    weights = weights_of(kind, tmp_path)
    exported = export(weights, tmp_path / "folder", "timm")
    assert exported.difference is not None and exported.difference < TOLERANCE
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    images = torch.randn(2, 3, *build(weights).img_size)
    with torch.no_grad():  # by timm's own pooling
        torch.testing.assert_close(
            model(images), build(weights).features(images), rtol=0, atol=2e-5
        )
    again = read_encoder(tmp_path / "folder")
    if weights.settings["num_registers"]:  # the class token's position is now in the token
        assert export(again, tmp_path / "again", "timm").difference < TOLERANCE
        assert torch.equal(class_token(again), class_token(weights))
    else:
        assert equal(again, weights)


@pytest.mark.parametrize("kind", OPENMMLAB)
def test_mmpretrains_class_takes_every_tensor_and_computes_the_same(kind: str, tmp_path: Path):
    weights = weights_of(kind, tmp_path)
    exported = export(weights, tmp_path / "backbone.pth", "openmmlab")
    assert exported.difference is not None and exported.difference < TOLERANCE
    again = read_encoder(tmp_path / "backbone.pth")
    assert again.stats == weights.stats
    assert again.state_dict.keys() == weights.state_dict.keys()
    assert all(torch.equal(t, again.state_dict[n]) for n, t in weights.state_dict.items())


@pytest.mark.parametrize("to", ["openmmlab", "mmseg"])
def test_the_config_line_loads_the_file_in_mmseg(to: str, tmp_path: Path):
    from mmseg.registry import MODELS

    weights = weights_of("mae", tmp_path)
    exported = export(weights, tmp_path / "backbone.pth", to)
    config = eval(exported.written.holds.removeprefix("backbone="), dict(dict=dict))
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401

    backbone = MODELS.build(config | dict(out_type="featmap") if to == "openmmlab" else config)
    backbone.init_weights()
    backbone.eval()
    encoder = build(weights)
    images = torch.randn(2, 3, *encoder.img_size)
    with torch.no_grad():
        theirs, ours = backbone(images)[-1], encoder(images).feature_map
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "to", "message"),
    [
        ("finetuned_mae", "huggingface", "ViTModel cannot hold this encoder: it has no final norm"),
        ("hf_vit", "timm", "its norms have epsilon 1e-12"),
        ("dinov2", "openmmlab", "mmpretrain's VisionTransformer cannot .* registers"),
        ("dinov3_timm", "openmmlab", "rotary positions|registers"),
        ("beit", "mmseg", "relative position bias; --to milan_mm, timm, .* can hold it"),
    ],
)
def test_what_a_format_cannot_hold_is_named_and_nothing_is_written(
    kind: str, to: str, message: str, tmp_path: Path
):
    weights = weights_of(kind, tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as error:
        export(weights, tmp_path / ("new.pth" if to in ("openmmlab", "mmseg") else "new"), to)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


# Part, see `tests/models/parts.py` -> what another library's class has of it.
HELD: dict[str, tuple[str, ...]] = {
    "registers": ("timm", "huggingface"),
    "SigLIP": ("timm", "openmmlab"),
    "mmseg": ("timm", "openmmlab", "mmseg"),
    "DINOv3": ("timm", "huggingface"),
}


@pytest.mark.parametrize("to", ["timm", "huggingface", "openmmlab", "mmseg"])
@pytest.mark.parametrize("part", PARTS)
def test_a_newer_part_is_held_or_named_with_the_formats_that_can(
    part: str, to: str, tmp_path: Path
):
    is_dinov3 = part == "DINOv3"
    _, content = checkpoint_of(part, **(dict(norm_eps=1e-5) if is_dinov3 else {}))
    for name, tensor in content["state_dict"].items():
        if is_dinov3 and name.endswith("attn.qkv.bias"):
            tensor.chunk(3)[1].zero_()  # its keys have no bias
    weights = recognise(content, "epoch_1.pth")
    out = tmp_path / ("new.pth" if to in ("openmmlab", "mmseg") else "new")
    if to in HELD.get(part, ()):
        exported = export(weights, out, to)
        assert exported.difference is None or exported.difference < TOLERANCE  # None: no library
        assert ("the attention pooling is left out" in str(exported)) == (part == "SigLIP")
        if to == "openmmlab":  # by its config
            assert read_encoder(out).settings["patch_bias"] == weights.settings["patch_bias"]
        return
    others = ", ".join(["milan_mm", *HELD.get(part, ()), "torch-export, torchscript, onnx"])
    with pytest.raises(UserError, match=f"cannot hold this encoder: .*; --to {others} can hold it"):
        export(weights, out, to)
    assert not out.exists()


@pytest.mark.parametrize("options", [dict(rel_pos_grid=(4, 4)), dict(window_size=2)])
def test_a_detectors_encoder_stays_here(options: dict, tmp_path: Path):
    vit = tiny_vit(with_cls_token=False, **options)
    arch = dict(embed_dims=48, num_layers=3, num_heads=4)
    backbone = dict(type="milan_mm.PlainViT", arch=arch, patch_size=8, **options)
    meta = dict(cfg=f"model = {dict(backbone=backbone)!r}")
    state = {f"backbone.{name}": tensor for name, tensor in vit.state_dict().items()}
    weights = read_encoder(save_state(dict(state_dict=state, meta=meta), tmp_path))
    with pytest.raises(ValueError, match="the windows or the relative positions of a detector"):
        export(weights, tmp_path / "new", "timm")


def test_the_folder_of_the_source_is_not_replaced(tmp_path: Path):
    weights = weights_of("mae", tmp_path)
    export(weights, tmp_path / "folder", "timm")
    again = read_encoder(tmp_path / "folder/model.safetensors", num_heads=4)
    with pytest.raises(ValueError, match="holds the source itself"):
        export(again, tmp_path / "folder", "huggingface", force=True)


def test_a_difference_is_an_error_that_leaves_the_file(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(writing, "largest_difference", lambda *_: 3e-4)
    weights = weights_of("mae", tmp_path)
    with pytest.raises(ValueError, match=r"differ from ours by 3\.0e-04 .* do not use it"):
        export(weights, tmp_path / "folder", "timm")
    assert (tmp_path / "folder/model.safetensors").is_file()


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_there_is_replaced_only_when_asked(to: str, tmp_path: Path):
    suffixes = {"torch-export": ".pt2", "torchscript": ".pt", "onnx": ".onnx"}
    folder = to in ("timm", "huggingface")
    out = tmp_path / ("out" if folder else "out" + suffixes.get(to, ".pth"))
    (out / "config.json" if folder else out).parent.mkdir(exist_ok=True)
    (out / "config.json" if folder else out).write_text("{}")
    weights = weights_of("mae", tmp_path)
    with pytest.raises(FileExistsError, match="exists: pass --force to replace it"):
        export(weights, out, to)
    assert (out / "config.json" if folder else out).read_text() == "{}"
    if to in ("timm", "openmmlab"):
        assert export(weights, out, to, force=True).difference is not None


def test_a_folder_with_other_files_is_not_removed(tmp_path: Path):
    weights = weights_of("mae", tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.tex'"):
        export(weights, tmp_path / "out", "timm", force=True)
    assert (tmp_path / "out/thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("onnx", "a.pt", r"must end in \.onnx"),
        ("timm", "a.pth", "writes a folder"),
        ("flax", "a", "format 'flax' is unknown"),
    ],
)
def test_a_wrong_name_is_refused(to: str, name: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        export(weights_of("mae", tmp_path), tmp_path / name, to)


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("milan_mm.encoder.export.checking.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install onnx onnxscript"):
        export(weights_of("mae", tmp_path), tmp_path / "a.onnx", "onnx")
    exported = export(weights_of("mae", tmp_path), tmp_path / "folder", "huggingface")
    assert "not installed here (pip install transformers)" in str(exported)
