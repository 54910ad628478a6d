"""TorchScript archives: their tensors are read, their code is not."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder
from tests.hostile.kinds import Call
from tests.weights.zoo import D, clip_model


class Tower(nn.Module):
    """Nested modules, a parameter, a buffer, half precision and a shared storage."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)) for _ in "ab")
        self.proj = nn.Parameter(torch.randn(3, 5).half())
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("every_second", torch.arange(10.0)[::2])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Tower, Path]:
    tower = Tower()
    torch.jit.script(tower).save(str(tmp_path / "tower.pt"))
    return tower, tmp_path / "tower.pt"


def test_all_tensors_of_an_archive_are_read(archive: tuple[Tower, Path]):
    tower, file = archive
    read, expected = read_checkpoint(file), tower.state_dict()
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name


def test_a_scripted_clip_in_half_precision_is_recognised(tmp_path: Path):
    class ImageTower(nn.Module):
        """What matters of OpenAI's archive: an image tower and three scalars."""

        def __init__(self) -> None:
            super().__init__()
            self.visual = clip_model(quick_gelu=True).visual.half()
            for name, value in dict(input_resolution=32, context_length=7, vocab_size=9).items():
                self.register_buffer(name, torch.tensor(value))

        def forward(self, imgs: Tensor) -> Tensor:
            return self.visual.conv1(imgs)

    tower = ImageTower()
    traced = torch.jit.trace(tower, torch.zeros(1, 3, 32, 32, dtype=torch.half))
    traced.save(str(tmp_path / "ViT-B-16.pt"))
    encoder = read_encoder(tmp_path / "ViT-B-16.pt", num_heads=4)
    assert encoder.system == "CLIP" and encoder.settings["act"] == "QuickGELU"
    weight = encoder.state_dict["layers.2.attn.qkv.weight"]
    assert weight.dtype == torch.float32 and weight.shape == (3 * D, D)
    block = tower.visual.transformer.resblocks[2]
    assert torch.equal(weight, block.attn.in_proj_weight.float())


def rewritten(file: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive whose entries went through `change(name, content)`."""
    copy = file.with_name("changed.pt")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return copy


def test_the_code_of_an_archive_is_never_looked_at(archive: tuple[Tower, Path]):
    _, file = archive
    copy = rewritten(file, lambda name, content: b"%&/" if "/code/" in name else content)
    assert read_checkpoint(copy).keys() == read_checkpoint(file).keys()


@pytest.mark.parametrize("function", [eval, getattr, __import__, torch.load, Path.mkdir])
def test_an_archive_that_calls_anything_is_refused_and_the_call_not_made(
    archive: tuple[Tower, Path], function, tmp_path: Path
):
    marker = tmp_path / "marker"
    payload = pickle.dumps(Call(function, f"open({str(marker)!r}, 'w')"), protocol=2)
    copy = rewritten(archive[1], lambda name, c: payload if name.endswith("/data.pkl") else c)
    with pytest.raises(ValueError, match=r"changed\.pt' holds Python objects"):
        read_checkpoint(copy)
    assert not marker.exists()


class Rebuilt:
    """Pickles as a tensor of a made-up size over a storage of the archive."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.arguments = (offset, size, stride)

    def __reduce__(self):
        offset, size, stride = self.arguments
        return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})


class Storage:
    """Pickles as the reference to a storage of ten numbers."""


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", torch.FloatStorage, "0", "cpu", 10)
        return None


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((11,), (1,), 0),
        ((5,), (3,), 0),
        ((2,), (1,), 9),
        ((1000000, 1000000), (0, 0), 0),
        ((3,), (-1,), 5),
        ((3,), (1,), -1),
        ((3, 3), (1,), 0),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(
    archive: tuple[Tower, Path], tmp_path: Path, size, stride, offset
):
    description = tmp_path / "data.pkl"
    with description.open("wb") as file:
        Pickler(file, protocol=2).dump(Rebuilt(size, stride, offset))

    def change(name: str, content: bytes) -> bytes:
        if name.endswith("/data.pkl"):
            return description.read_bytes()
        return bytes(40) if name.endswith("/data/0") else content

    with pytest.raises(ValueError, match=r"changed\.pt' .*is damaged"):
        read_checkpoint(rewritten(archive[1], change))


def test_a_storage_of_another_length_is_refused(archive: tuple[Tower, Path]):
    copy = rewritten(archive[1], lambda name, c: c[:-4] if name.endswith("/data/1") else c)
    with pytest.raises(ValueError, match=r"changed\.pt' is damaged"):
        read_checkpoint(copy)


def test_a_missing_storage_is_refused(archive: tuple[Tower, Path]):
    copy = rewritten(archive[1], lambda name, c: None if name.endswith("/data/1") else c)
    with pytest.raises(ValueError, match=r"changed\.pt' is damaged"):
        read_checkpoint(copy)
