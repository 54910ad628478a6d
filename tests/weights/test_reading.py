"""Reading weight files: everything harmless, nothing that runs code, nothing damaged."""

import hashlib
import shutil
import subprocess
from argparse import Namespace
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from safetensors.torch import save_file

from milan_mm.errors import UserError
from milan_mm.weights import reading
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.names import ASSETS, SUMS
from milan_mm.weights.reading import (
    file_sha256,
    read_checkpoint,
    read_metadata,
    tensors_sha256,
)
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state, tiny_vit
from tests.hostile.kinds import Call


def test_torch_and_safetensors_files_give_the_same_tensors(tmp_path):
    state = tiny_vit().state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    for path in (save_state(state, tmp_path), tmp_path / "weights.safetensors"):
        read = read_checkpoint(path)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in state)


def test_old_torch_format_is_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "old.pth")["a"], torch.ones(2))


def test_message_hub_of_a_training_checkpoint_is_read(tmp_path):
    hub = MessageHub.get_instance("test_reading")
    hub.update_scalar("train/loss", 0.5)
    hub.update_scalar("train/lr", np.float64(1e-3))
    hub.update_info("iter", 7)
    checkpoint = dict(state_dict=dict(a=torch.ones(2)), message_hub=hub.state_dict())
    torch.save(checkpoint, tmp_path / "epoch_1.pth")
    read = read_checkpoint(tmp_path / "epoch_1.pth")["message_hub"]
    assert read["runtime_info"]["iter"] == 7
    assert isinstance(read["log_scalars"]["train/loss"], HistoryBuffer)
    assert read["log_scalars"]["train/loss"].current() == 0.5


def test_the_command_line_in_a_checkpoint_of_the_mae_family_is_read(tmp_path):
    args = Namespace(mask_ratio=0.75, output_dir=PosixPath("runs/1"))
    torch.save(dict(model=dict(a=torch.ones(2)), args=args), tmp_path / "checkpoint-399.pth")
    read = read_checkpoint(tmp_path / "checkpoint-399.pth")["args"]
    assert read.mask_ratio == 0.75 and str(read.output_dir) == "runs/1"


@pytest.mark.parametrize(
    ("owner", "name"), [(HistoryBuffer, "__init__"), (HistoryBuffer, "__globals__"), (dict, "get")]
)
def test_attribute_look_ups_other_than_those_of_the_log_are_refused(tmp_path, owner, name):
    if not hasattr(owner, name):
        owner, name = HistoryBuffer.mean, name
    torch.save(dict(a=Call(getattr, owner, name)), tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth' holds Python objects"):
        read_checkpoint(tmp_path / "bad.pth")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights file '.*none\.pth' does not exist"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    state, file = tiny_vit().state_dict(), tmp_path / f"cut{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=rf"weights file '.*cut\{suffix}' is damaged"):
        read_checkpoint(file)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_random_bytes_are_refused(tmp_path, suffix):
    generator = np.random.default_rng(0)
    for _ in range(20):
        (tmp_path / f"noise{suffix}").write_bytes(generator.bytes(300))
        with pytest.raises(ValueError, match=r"weights file '.*noise.*' (is damaged|holds)"):
            read_checkpoint(tmp_path / f"noise{suffix}")


def test_damaged_bytes_inside_the_index_are_refused_or_harmless(tmp_path):
    data = bytearray(save_state(dict(a=torch.ones(2)), tmp_path).read_bytes())
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(data), 60):
        broken = data.copy()
        broken[position] ^= 0xFF
        (tmp_path / "flipped.pth").write_bytes(broken)
        try:
            read_checkpoint(tmp_path / "flipped.pth")
        except ValueError as error:
            assert "flipped.pth" in str(error)


def test_errors_are_one_line(tmp_path):
    (tmp_path / "text.pth").write_text("hello\nworld")
    with pytest.raises(ValueError) as error:
        read_checkpoint(tmp_path / "text.pth")
    assert "\n" not in str(error.value)


def test_file_without_a_dict_is_refused(tmp_path):
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match=r"tensor\.pth' holds a Tensor, not a dict"):
        read_checkpoint(tmp_path / "tensor.pth")


# ------------------------------------------------------------------- arrays, folders, checksums
def test_flax_arrays_are_read(tmp_path):
    arrays = {"params/cls": np.ones((1, 1, 3), np.float32), "step": np.array(7)}
    np.savez(tmp_path / "a.npz", **arrays)
    read = read_checkpoint(tmp_path / "a.npz")
    assert read.keys() == arrays.keys()
    assert torch.equal(read["params/cls"], torch.ones(1, 1, 3)) and int(read["step"]) == 7


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_stands_for_its_weights_file(tmp_path, name):
    state = dict(a=torch.ones(2))
    save_file(state, tmp_path / name) if "safe" in name else torch.save(state, tmp_path / name)
    assert torch.equal(read_checkpoint(tmp_path)["a"], state["a"])


def test_a_folder_without_weights_is_refused_with_the_names_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no weights file: .*model\.safetensors"):
        read_checkpoint(tmp_path)


def test_a_folder_with_weights_in_parts_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"in parts .*save them as one model\.safetensors"):
        read_checkpoint(tmp_path)


def test_a_wrong_checksum_in_a_file_is_refused(tmp_path):
    state = dict(a=torch.ones(2), b=torch.zeros(1, dtype=torch.bfloat16))
    file = tmp_path / "a.safetensors"
    save_file(state, file, dict(sha256=tensors_sha256(state)))
    assert read_checkpoint(file).keys() == state.keys()
    save_file(state | dict(a=torch.tensor([1.0, 1.0001])), file, read_metadata(file))
    with pytest.raises(ValueError, match=r"a\.safetensors' is damaged: .* the sha256"):
        read_checkpoint(file)


def test_a_flipped_bit_in_a_file_of_this_package_is_noticed(tmp_path, monkeypatch):
    for name in (SUMS, "milan_mini_shapes.safetensors"):
        shutil.copy(ASSETS / name, tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=ASSETS, check=True)
    monkeypatch.setattr(reading, "ASSETS", tmp_path)
    file = tmp_path / "milan_mini_shapes.safetensors"
    read_checkpoint(file)
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"milan_mini_shapes.safetensors' is damaged: its bytes"):
        read_checkpoint(file)


def test_the_checksum_of_a_file_is_that_of_its_bytes_also_by_its_folder(tmp_path):
    content = np.random.default_rng(0).bytes(1 << 20)
    (tmp_path / "model.safetensors").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert file_sha256(tmp_path / "model.safetensors") == file_sha256(tmp_path) == expected
    (tmp_path / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert file_sha256(tmp_path) != expected
    with pytest.raises(FileNotFoundError, match=r"gone\.pth' does not exist"):
        file_sha256(tmp_path / "gone.pth")


def test_the_checksum_tells_names_shapes_and_types_apart():
    a = torch.arange(4.0)
    variants = [dict(a=a), dict(b=a), dict(a=a[None]), dict(a=a.double()), dict(a=a, b=a)]
    assert len({tensors_sha256(state) for state in variants}) == len(variants)


def test_every_flipped_bit_of_an_encoder_file_is_noticed(tmp_path):
    file, broken = tmp_path / "encoder.safetensors", tmp_path / "broken.safetensors"
    vit = tiny_vit(arch=dict(embed_dims=8, num_layers=1, num_heads=2), img_size=8, patch_size=4)
    export_encoder(save_state(vit.state_dict(), tmp_path), file)
    data, before = file.read_bytes(), read_encoder(file)
    generator = np.random.default_rng(0)
    for position in (*range(0, 60, 5), *generator.integers(0, len(data), 60)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(generator.integers(8))
        broken.write_bytes(flipped)
        try:
            read = read_encoder(broken)
        except ValueError as error:
            assert "broken.safetensors" in str(error) and "\n" not in str(error)
        else:  # in the text about the source, which says nothing of the encoder
            assert read.state_dict.keys() == before.state_dict.keys()
            assert all(torch.equal(t, before.state_dict[n]) for n, t in read.state_dict.items())
            assert {n: v for n, v in read.settings.items() if n != "layer_scale"} == {
                n: v for n, v in before.settings.items() if n != "layer_scale"
            }


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_a_truncated_archive_is_refused(tmp_path, suffix):
    file = tmp_path / f"cut{suffix}"
    if suffix == ".npz":
        np.savez(file, **{n: t.numpy() for n, t in tiny_vit().state_dict().items()})
    else:
        torch.jit.script(torch.nn.Linear(50, 50)).save(str(file))
    data = file.read_bytes()
    for share in np.linspace(0, 0.999, 24):
        file.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=rf"weights file '.*cut\{suffix}' (is damaged|holds)"):
            read_checkpoint(file)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_flipped_bits_of_an_archive_are_refused_or_harmless(tmp_path, suffix):
    file = tmp_path / f"flipped{suffix}"
    if suffix == ".npz":
        np.savez(file, a=np.ones((3, 3)), b=np.zeros(5))
    else:
        torch.jit.script(torch.nn.Linear(3, 3)).save(str(file))
    data = file.read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(data), 60):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(generator.integers(8))
        file.write_bytes(flipped)
        try:
            read_checkpoint(file)
        except ValueError as error:
            assert f"flipped{suffix}" in str(error) and "\n" not in str(error)
