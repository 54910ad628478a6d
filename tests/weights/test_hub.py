"""A config.json beside the weights settles what no tensor tells."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from milan_mm.weights import hub
from milan_mm.weights.encoder import Encoder
from milan_mm.weights.recognising import read_encoder
from tests.weights.zoo import HEADS, LAYERS, SYSTEMS, D, sizes, timm_vit

CONFIG = dict(
    model_type="vit",
    hidden_size=D,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
    image_size=32,
    patch_size=8,
)
HALF = dict(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])


def write(folder: Path, system: str, config: dict, preprocessor: dict | None = None) -> Path:
    """A folder as Hugging Face saves it."""
    state = SYSTEMS[system](folder).content
    save_file({n: t.contiguous() for n, t in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.mark.parametrize("by_file", [False, True])
def test_heads_epsilon_and_statistics_are_told(tmp_path: Path, by_file: bool):
    folder = write(tmp_path, "hf_vit", CONFIG, HALF)
    encoder = read_encoder(folder / "model.safetensors" if by_file else folder)
    assert encoder.settings["arch"]["num_heads"] == HEADS
    assert encoder.settings["norm_eps"] == 1e-12 and encoder.stats == "half"
    assert set(encoder.assumed) == {"pooling"}


@pytest.mark.parametrize(
    ("system", "changes", "expected"),
    [
        ("hf_vit", dict(model_type="vit_mae"), "MAE"),
        ("hf_beit", dict(model_type="beit", use_mean_pooling=True), "BEiT"),
        ("hf_beit", dict(model_type="data2vec-vision"), "data2vec"),
        ("hf_dinov2", dict(model_type="dinov2_with_registers", num_register_tokens=2), "DINOv2"),
        ("hf_dinov3", dict(model_type="dinov3_vit", rope_theta=50, layer_norm_eps=1e-5), "DINOv3"),
    ],
)
def test_the_type_of_the_model_names_the_system(
    tmp_path: Path, system: str, changes: dict, expected: str
):
    encoder = read_encoder(write(tmp_path, system, CONFIG | changes))
    assert encoder.system == expected
    assert encoder.settings["rope_base"] == changes.get("rope_theta")


CLIPS = [
    ("clip", {}, "CLIP", "QuickGELU"),  # what its class takes where nothing is said
    ("clip", dict(hidden_act="gelu"), "open_clip", "GELU"),
    ("clip_vision_model", dict(hidden_act="quick_gelu"), "CLIP", "QuickGELU"),
    ("metaclip_2", dict(hidden_act="gelu"), "MetaCLIP 2", "GELU"),
    ("metaclip_2_vision_model", {}, "MetaCLIP 2", "QuickGELU"),
]


@pytest.mark.parametrize(("kind", "changes", "system", "act"), CLIPS)
def test_the_config_of_an_image_text_model_tells_whose_it_is_and_its_activation(
    tmp_path: Path, kind: str, changes: dict, system: str, act: str
):
    vision = {n: v for n, v in CONFIG.items() if n not in ("model_type", "hidden_act")} | changes
    vision |= dict(layer_norm_eps=1e-4)
    config = vision if kind.endswith("vision_model") else dict(vision_config=vision)
    encoder = read_encoder(write(tmp_path, "hf_clip", dict(config, model_type=kind)))
    assert (encoder.system, encoder.settings["act"]) == (system, act)
    assert encoder.settings["norm_eps"] == 1e-4 and encoder.settings["arch"]["num_heads"] == HEADS
    assert encoder.assumed.keys() == {"stats", "pooling"}


def test_the_activation_of_a_clip_without_its_config_is_assumed(tmp_path: Path):
    write(tmp_path, "hf_clip", CONFIG)
    (tmp_path / "config.json").unlink()
    for system, act in (("CLIP", "QuickGELU"), ("open_clip", "GELU")):
        encoder = read_encoder(tmp_path, system=system, num_heads=HEADS)
        assert encoder.settings["act"] == act and "act" in encoder.assumed


def test_an_image_tower_that_is_not_described_is_refused(tmp_path: Path):
    config = dict(model_type="clip", vision_config="ViT-B/16")
    with pytest.raises(ValueError, match=r"is damaged: vision_config='ViT-B/16'"):
        read_encoder(write(tmp_path, "hf_clip", config))


@pytest.mark.parametrize("kind", ["beit", "data2vec-vision"])
def test_a_model_whose_only_norm_is_after_the_pooling_may_lack_a_final_one(
    tmp_path: Path, kind: str
):
    """As BeitForSemanticSegmentation and Data2VecVisionModel, which have no pooling."""
    write(tmp_path, "hf_beit", CONFIG)
    file = tmp_path / "model.safetensors"
    state = {n: t for n, t in load_file(file).items() if "layernorm." not in n}
    save_file(state | {"decode_head.classifier.weight": torch.ones(2)}, file)
    config = CONFIG | dict(model_type=kind)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not read_encoder(tmp_path).settings["final_norm"]
    (tmp_path / "config.json").write_text(json.dumps(config | dict(use_mean_pooling=False)))
    with pytest.raises(ValueError, match=r"is missing .*layernorm\.weight"):
        read_encoder(tmp_path)


def test_quick_gelu_is_told(tmp_path: Path):
    encoder = read_encoder(write(tmp_path, "hf_vit", CONFIG | dict(hidden_act="quick_gelu")))
    assert encoder.settings["act"] == "QuickGELU" and "act" not in encoder.assumed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(hidden_act="relu"), "hidden_act='relu', supported are gelu, silu, quick_gelu"),
        (dict(hidden_size=64), "says embed_dims=64, the tensors 48"),
        (dict(patch_size=16), "says patch_size=16, the tensors 8"),
        (dict(num_hidden_layers=2), "says num_layers=2, the tensors 3"),
        (dict(num_attention_heads="four"), "num_attention_heads='four', which is not a"),
        (dict(num_attention_heads=7), "width 48 is not a multiple of 7 heads"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        read_encoder(write(tmp_path, "hf_vit", CONFIG | changes))


def test_registers_that_the_config_has_and_the_file_lacks_are_refused(tmp_path: Path):
    config = CONFIG | dict(model_type="dinov2_with_registers", num_register_tokens=3)
    with pytest.raises(ValueError, match="says num_registers=3, the tensors 2"):
        read_encoder(write(tmp_path, "hf_dinov2", config))


def test_a_config_beside_another_file_is_that_of_another_model(tmp_path: Path):
    folder = write(tmp_path, "hf_vit", CONFIG | dict(layer_norm_eps=1e-3), HALF)
    (folder / "model.safetensors").rename(folder / "downloaded.safetensors")
    encoder = read_encoder(folder / "downloaded.safetensors")
    assert encoder.settings["norm_eps"] == 1e-12 and "num_heads" not in encoder.settings["arch"]
    assert {"stats", "norm_eps"} <= encoder.assumed.keys()


@pytest.mark.parametrize("name", ["hidden_size", "num_attention_heads", "layer_norm_eps"])
@pytest.mark.parametrize("value", [-1, [], {}, True, "12", float("inf")])
def test_numbers_that_a_config_cannot_mean_are_refused(tmp_path: Path, name: str, value: object):
    with pytest.raises(ValueError, match=rf"config\.json' says {name}=.*, which is not a"):
        read_encoder(write(tmp_path, "hf_vit", CONFIG | {name: value}))


def test_no_heads_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="48 is not a multiple of 0 heads"):
        read_encoder(write(tmp_path, "hf_vit", CONFIG | dict(num_attention_heads=0)))


def test_a_damaged_config_is_refused(tmp_path: Path):
    write(tmp_path, "hf_vit", CONFIG)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' is damaged"):
        read_encoder(tmp_path)


def test_a_model_that_is_not_known_here_is_refused_until_its_system_is_named(tmp_path: Path):
    write(tmp_path, "hf_vit", dict(model_type="yolos", layer_norm_eps=1e-3))
    with pytest.raises(ValueError, match=r"config\.json says model_type='yolos'.*--system"):
        read_encoder(tmp_path)
    encoder = read_encoder(tmp_path, system="Hugging Face ViT")
    assert encoder.settings["norm_eps"] == 1e-12 and "norm_eps" in encoder.assumed


def timm_folder(folder: Path, **changes) -> Encoder:
    save_file(timm_vit().state_dict(), folder / "model.safetensors")
    pretrained = dict(tag="augreg_in1k", mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    config = dict(
        architecture="vit_base_patch16_224",
        global_pool="token",
        model_args=sizes(),
        pretrained_cfg=pretrained,
    )
    (folder / "config.json").write_text(json.dumps(config | changes))
    return read_encoder(folder)


def test_timms_config_tells_system_statistics_and_pooling(tmp_path: Path):
    encoder = timm_folder(tmp_path)
    assert (encoder.system, encoder.stats, encoder.pooling) == ("AugReg", "half", "cls")
    assert not {"stats", "pooling"} & encoder.assumed.keys()


def test_timms_config_tells_quick_gelu(tmp_path: Path):
    encoder = timm_folder(tmp_path, model_args=sizes() | dict(act_layer="quick_gelu"))
    assert encoder.settings["act"] == "QuickGELU"


def test_the_statistics_of_a_system_are_assumed_and_say_so(tmp_path: Path):
    encoder = read_encoder(write(tmp_path, "hf_vit", dict(model_type="vit")))
    assert "'half', of Hugging Face ViT's own recipe" in encoder.assumed["stats"]
    assert torch.is_tensor(encoder.state_dict["cls_token"])


@pytest.mark.parametrize(("system", "stats"), [("mc-BEiT", "imagenet"), ("PeCo", "imagenet")])
def test_a_file_in_beits_layout_is_accepted_under_another_name(
    tmp_path: Path, system: str, stats: str
):
    torch.save(SYSTEMS["beit"](tmp_path).content, tmp_path / "a.pth")
    assert read_encoder(tmp_path / "a.pth").stats == "half"
    encoder = read_encoder(tmp_path / "a.pth", system=system)
    assert (encoder.system, encoder.stats) == (system, stats)


@pytest.mark.parametrize(
    ("name", "repository"),
    [("timm:vit_tiny.augreg", "timm/vit_tiny.augreg"), ("hf:google/vit-base", "google/vit-base")],
)
def test_a_name_on_the_hub_stands_for_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, repository: str
):
    write(tmp_path, "hf_vit", CONFIG)
    asked = []

    def download(repo_id: str, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert read_encoder(name).settings["norm_eps"] == 1e-12
    assert asked == [(repository, hub._DOWNLOADED)]
    assert not [name for name in hub._DOWNLOADED if name.endswith((".bin", ".py"))]


def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def download(repo_id: str, allow_patterns: list[str]) -> str:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(ValueError, match="'timm:x' could not be downloaded: no network - give a"):
        read_encoder("timm:x")


def test_an_unknown_system_is_refused(tmp_path: Path):
    torch.save(timm_vit().state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="system 'GPT' is unknown: choose from MILAN, MAE"):
        read_encoder(tmp_path / "a.pth", system="GPT")
