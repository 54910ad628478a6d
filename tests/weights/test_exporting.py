"""Exporting an encoder: a round trip without loss, and never half a file."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from milan_mm.models.plain_vit import PlainViT
from milan_mm.registry import MODELS
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder
from tests.helpers import milan_config, save_state, tiny_vit
from tests.weights.zoo import HEADS, SYSTEMS


def milan_checkpoint(folder) -> tuple[torch.nn.Module, str]:
    model = MODELS.build(milan_config())
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), folder / "epoch_1.pth")
    return model.backbone, folder / "epoch_1.pth"


def test_exported_encoder_equals_the_trained_one(tmp_path):
    backbone, checkpoint = milan_checkpoint(tmp_path)
    export_encoder(checkpoint, tmp_path / "encoder.safetensors")
    exported = read_checkpoint(tmp_path / "encoder.safetensors")
    assert exported.keys() == backbone.state_dict().keys()
    assert all(torch.equal(exported[n], t) for n, t in backbone.state_dict().items())


def test_exported_encoder_loads_into_an_encoder(tmp_path):
    source = tiny_vit()
    export_encoder(save_state(source.state_dict(), tmp_path), tmp_path / "encoder.safetensors")
    vit = tiny_vit()
    load_encoder(vit, tmp_path / "encoder.safetensors")
    imgs = torch.randn(1, 3, 32, 32)
    assert torch.equal(vit(imgs)[0], source(imgs)[0])


@pytest.mark.parametrize("system", ["siglip", "aimv2", "pe_timm", "pe_timm_no_cls", "eva02_clip"])
def test_an_exported_encoder_with_newer_parts_is_read_again(system: str, tmp_path: Path):
    file = save_state(SYSTEMS[system](tmp_path).content, tmp_path)
    encoder = read_encoder(file, num_heads=HEADS)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    again = read_encoder(tmp_path / "encoder.safetensors")
    assert again.settings == encoder.settings and again.pooling == encoder.pooling
    assert again.state_dict.keys() == encoder.state_dict.keys()
    vits = [PlainViT(**each.model_settings(), out_type="raw") for each in (encoder, again)]
    imgs = torch.randn(1, 3, 40, 24)
    for vit, each in zip(vits, (encoder, again), strict=True):
        load_encoder(vit, each)
    assert torch.equal(*(vit.eval()(imgs)[0] for vit in vits))


def test_half_export_is_close_and_half_as_large(tmp_path):
    file = save_state(tiny_vit().state_dict(), tmp_path)
    export_encoder(file, tmp_path / "full.safetensors")
    export_encoder(file, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{kind}.safetensors").stat().st_size for kind in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    full, half = (read_checkpoint(tmp_path / f"{kind}.safetensors") for kind in ("full", "half"))
    for name in full:
        torch.testing.assert_close(half[name].float(), full[name], rtol=1e-3, atol=1e-4)


def test_metadata_tells_the_sizes(tmp_path):
    _, checkpoint = milan_checkpoint(tmp_path)
    metadata = export_encoder(checkpoint, tmp_path / "encoder.safetensors")
    with safe_open(tmp_path / "encoder.safetensors", framework="pt") as file:
        assert file.metadata() == metadata
    sizes = {
        key: metadata[key] for key in ("embed_dims", "num_layers", "patch_size", "num_patches")
    }
    assert sizes == dict(embed_dims="48", num_layers="2", patch_size="8", num_patches="144")
    assert metadata["source"] == "epoch_1.pth"


def test_failed_export_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    checkpoint = save_state(tiny_vit().state_dict(), tmp_path)
    out = tmp_path / "encoder.safetensors"
    out.write_bytes(b"the old file")

    def break_off(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:9])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(OSError, match="No space left"):
        export_encoder(checkpoint, out)
    assert out.read_bytes() == b"the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encoder.safetensors",
        "weights.pth",
    ]


def test_other_file_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"encoder\.pth' must end in \.safetensors"):
        export_encoder(save_state(tiny_vit().state_dict(), tmp_path), tmp_path / "encoder.pth")


def test_checkpoint_without_an_encoder_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="holds no plain-ViT encoder"):
        export_encoder(save_state(dict(a=torch.ones(1)), tmp_path), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("head", ["rpn_head", "roi_head", "decode_head", "auxiliary_head", "head"])
def test_encoder_of_a_transfer_run_is_exported_without_its_heads(head, tmp_path):
    encoder = {f"backbone.{name}": tensor for name, tensor in tiny_vit().state_dict().items()}
    state = encoder | {"neck.conv.weight": torch.zeros(1), f"{head}.conv.weight": torch.zeros(1)}
    export_encoder(save_state(state, tmp_path), tmp_path / "encoder.safetensors")
    names = read_checkpoint(tmp_path / "encoder.safetensors").keys()
    assert names == {name.removeprefix("backbone.") for name in encoder}
