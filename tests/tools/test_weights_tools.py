"""tools/inspect_weights.py and tools/convert_checkpoint.py as a user meets them."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from milan_mm.encoder.export import writing
from milan_mm.models.plain_vit import PlainViT
from milan_mm.weights.layouts import LAYOUTS
from milan_mm.weights.loading import load_encoder
from milan_mm.weights.names import SHIPPED
from milan_mm.weights.reading import file_sha256, read_metadata
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state
from tests.hostile.kinds import Call
from tests.weights.zoo import SYSTEMS, moco_v3


def save(system: str, folder: Path) -> Path:
    return save_state(SYSTEMS[system](folder).content, folder, f"{system}.pth")


@pytest.mark.parametrize("system", ["beit", "openai_clip", "dinov3", "mae", "swag", "hf_dinov2"])
def test_inspection_tells_layout_system_statistics_and_every_task(
    call, capsys, tmp_path: Path, system: str
):
    file = save(system, tmp_path)
    call("inspect_weights", file, "--num-heads", 4)
    out, encoder = capsys.readouterr().out, read_encoder(file)
    for word in (encoder.layout, encoder.system, f"statistics  {encoder.stats}", encoder.pooling):
        assert word in out
    assert encoder.layout in LAYOUTS
    assert all(reason in out for reason in encoder.dropped.values())
    assert all(sentence in out for sentence in encoder.assumed.values())
    pooled = dict(cls="class token", mean="mean of the patches")[encoder.pooling]
    assert f"  figures       t-SNE and neighbours: {pooled} after" in out
    for task in ("k-NN", "linear", "finetuning", "detection", "segmentation", "pretraining"):
        assert re.search(rf"^  {task} +\w", out, re.MULTILINE)


def test_several_files_are_inspected_in_turn(call, capsys, tmp_path: Path):
    call("inspect_weights", save("mae", tmp_path), save("beit", tmp_path))
    out = capsys.readouterr().out
    assert out.index("system      MAE") < out.index("\n\n") < out.index("system      BEiT")


def test_inspection_of_an_encoder_without_known_heads_asks_for_them(call, capsys, tmp_path: Path):
    call("inspect_weights", save("mae", tmp_path))
    assert "unknown (--num-heads) heads" in capsys.readouterr().out


def test_inspection_says_when_pretraining_cannot_go_on(call, capsys, tmp_path: Path):
    call("inspect_weights", save("beit", tmp_path))
    assert "pretraining   not possible" in capsys.readouterr().out
    call("inspect_weights", save("milan", tmp_path))
    assert "pretraining   the encoder goes on" in capsys.readouterr().out


def test_inspection_lists_the_exports_that_hold_an_encoder(call, capsys, tmp_path: Path):
    for file, options, formats in (
        (save("beit", tmp_path), ("--num-heads", 4), "timm, huggingface, openmmlab, torch-export"),
        (
            save("hf_vit", tmp_path),
            ("--num-heads", 4),
            "huggingface, openmmlab, mmseg, torch",
        ),
        (save("mae", tmp_path), (), "none as it is"),
    ):
        call("inspect_weights", file, *options)
        assert f"  exports       {formats}" in capsys.readouterr().out


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_converted_encoder_is_read_back_with_all_that_is_known_of_it(
    call, tmp_path: Path, system: str
):
    content = SYSTEMS[system](tmp_path).content
    torch.save(content, tmp_path / "source.pth")
    out = tmp_path / "encoder.safetensors"
    call("convert_checkpoint", tmp_path / "source.pth", out, "--num-heads", 4)
    before, after = read_encoder(tmp_path / "source.pth", num_heads=4), read_encoder(out)
    assert after.settings == before.settings
    for name in ("system", "stats", "pooling", "assumed"):
        assert getattr(after, name) == getattr(before, name)
    assert after.state_dict.keys() == before.state_dict.keys()
    assert all(torch.equal(t, after.state_dict[n]) for n, t in before.state_dict.items())
    load_encoder(PlainViT(**after.model_settings()), after)


def test_the_metadata_tell_source_checksums_grid_and_settings(call, tmp_path: Path):
    file, out = save("beit", tmp_path), tmp_path / "encoder.safetensors"
    call("convert_checkpoint", file, out, "--system", "mc-BEiT")
    metadata = read_metadata(out)
    expected = dict(
        source="beit.pth",
        source_layout="beit",
        source_sha256=file_sha256(file),
        system="mc-BEiT",
        stats="imagenet",
        pooling="mean",
        grid="4x4",
    )
    assert {name: metadata[name] for name in expected} == expected
    settings = json.loads(metadata["settings"])
    assert settings["rel_pos_bias_grid"] == [4, 4] and settings["arch"]["num_heads"] == 4
    assert len(metadata["sha256"]) == len(metadata["metadata_sha256"]) == 64


def test_half_precision_halves_the_file(call, tmp_path: Path):
    out = tmp_path / "encoder.safetensors"
    call("convert_checkpoint", save("mae", tmp_path), out, "--half")
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("cls_token").dtype == torch.float16
    assert read_encoder(out).state_dict["cls_token"].dtype == torch.float32


def test_the_students_weights_are_converted_on_request(call, tmp_path: Path):
    file, out = save("dino_full", tmp_path), tmp_path / "student.safetensors"
    call("convert_checkpoint", file, out, "--student")
    student = torch.load(file, weights_only=True)["student"]
    expected = student["module.backbone.cls_token"]
    assert torch.equal(read_encoder(out).state_dict["cls_token"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pth", "a.safetensors"], "weights file 'none.pth' does not exist"),
        (["mae.pth", "a.pth"], r"output 'a\.pth' must end in \.safetensors"),
        (["mae.pth", "a.safetensors", "--layout", "x"], "layout 'x' is unknown"),
        (["mae.pth", "a.safetensors", "--num-heads", "7"], "48 is not a multiple of 7 heads"),
        (["mae.pth", "a.safetensors", "--student"], "holds no entry 'student'"),
        (["mae.pth", "a.pth", "--to", "milan_mm", "--half"], "--to converts .* leave out --half"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    call, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str
):
    save("mae", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call("convert_checkpoint", *arguments)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["mae.pth"]


def test_an_encoder_does_not_overwrite_its_source(call, capsys, tmp_path: Path):
    out = tmp_path / "encoder.safetensors"
    call("convert_checkpoint", save("mae", tmp_path), out)
    before = out.read_bytes()
    with pytest.raises(SystemExit):
        call("convert_checkpoint", out, out)
    assert "is the source itself" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_whole_pretraining_is_still_converted_bit_for_bit(call, capsys, tmp_path: Path):
    file = save_state(moco_v3().content, tmp_path, "moco.pth")
    with pytest.raises(SystemExit):  # it has no decoder
        call("convert_checkpoint", file, tmp_path / "a.pth", "--to", "milan_mm")
    assert "no pretraining checkpoint of milan_mm, official, mmpretrain" in capsys.readouterr().err


def test_code_runs_only_where_the_file_is_trusted(call, capsys, tmp_path: Path):
    args = Call(os.mkdir, str(tmp_path / "marker"))
    file = save_state(SYSTEMS["mae"](tmp_path).content | dict(args=args), tmp_path)
    with pytest.raises(SystemExit):
        call("inspect_weights", file)
    assert not (tmp_path / "marker").exists()
    call("inspect_weights", file, "--trust-pickle")
    assert (tmp_path / "marker").exists() and "system      MAE" in capsys.readouterr().out


def test_the_export_sends_whole_pretrainings_to_the_other_tool(call, capsys):
    with pytest.raises(SystemExit):
        call("export_encoder", "--help")
    assert "tools/convert_checkpoint.py" in capsys.readouterr().out


def test_an_encoder_of_another_system_is_exported_to_another_library(call, capsys, tmp_path: Path):
    call(
        "export_encoder", save("mae", tmp_path), tmp_path / "vit", "--to", "timm", "--num-heads", 4
    )
    out = capsys.readouterr().out
    assert f"timm.create_model('local-dir:{tmp_path / 'vit'}', pretrained=True)" in out
    assert re.search(r"differ by \d\.\de-07 of their largest value \(limit 1e-05\)", out)
    assert read_encoder(tmp_path / "vit").settings["arch"]["num_heads"] == 4


@pytest.mark.parametrize("half", [False, True])
def test_an_encoder_of_this_package_is_checked_after_writing(call, capsys, tmp_path: Path, half):
    out = tmp_path / "a.safetensors"
    call("export_encoder", save("mae", tmp_path), out, "--num-heads", 4, *["--half"] * half)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(out)
    assert lines[1] == f"  loads as    --weights {out}, milan_mm.load_encoder('{out}')"
    assert re.match(r"  checked     features .* differ by 0\.0e\+00 of their largest", lines[2])
    assert "system MAE, stats imagenet, pooling mean" in lines[3] and len(lines) == 4 + half


def test_an_encoder_whose_heads_nobody_said_is_written_unchecked(call, capsys, tmp_path: Path):
    call("export_encoder", save("mae", tmp_path), tmp_path / "a.safetensors")
    assert re.search(r"checked     no: .* pass --num-heads", capsys.readouterr().out)
    assert read_encoder(tmp_path / "a.safetensors").system == "MAE"


def test_a_damaged_export_is_an_error(error_of, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(writing, "largest_difference", lambda *_: 3e-4)
    message = error_of("export_encoder", "milan-mini-shapes", tmp_path / "a.safetensors")
    assert "differ from ours by 3.0e-04" in message


def test_a_shipped_encoder_is_exported_by_its_name(call, tmp_path: Path):
    call("export_encoder", "milan-mini-shapes", tmp_path / "a.safetensors")
    assert read_encoder(tmp_path / "a.safetensors").system == "MILAN"


@pytest.mark.parametrize("name", SHIPPED)
def test_inspection_of_a_shipped_name_and_of_its_file_say_the_same(call, capsys, name: str):
    call("inspect_weights", name)
    by_name = capsys.readouterr().out
    call("inspect_weights", SHIPPED[name].file)
    assert capsys.readouterr().out == by_name
    assert f"statistics  {SHIPPED[name].stats}" in by_name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("milan-mini-shape", "did you mean 'milan-mini-shapes'? milan_mm.list_encoders() lists"),
        ("vitb", "'vitb' does not exist: milan_mm.list_encoders() lists"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(error_of, name: str, hint: str):
    assert hint in error_of("inspect_weights", name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mae.pth", "mae", "--to", "timm", "--half"], "--half is for --to milan_mm"),
        (["mae.pth", "mae.pt", "--to", "onnx"], r"output 'mae\.pt' must end in \.onnx"),
        (["none.pth", "mae.pth", "--to", "openmmlab"], "exists: pass --force"),
        (["none.pth", "new.pth", "--to", "openmmlab"], "'none.pth' does not exist"),
        (["mae.pth", "mae.pth", "--to", "mmseg", "--force"], "is the source itself"),
        (["mae.pth", "new", "--to", "timm"], "pass --num-heads"),
    ],
)
def test_a_mistake_of_an_export_is_one_line_and_writes_nothing(
    call, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str
):
    save("mae", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call("export_encoder", *arguments)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["mae.pth"]
