"""What torch.save writes is read as torch.load reads it, of any harmless kind."""

import io
import random
import tracemalloc
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from milan_mm.weights.reading import read_checkpoint, read_meta
from tests.hostile.damage import equal

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32),
    *(torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz),
]
_BASE = torch.arange(24.0)
TENSORS = {
    **{str(dtype): torch.arange(6).to(dtype) for dtype in DTYPES},
    "without dimensions": torch.tensor(3.0),
    "without elements": torch.zeros(0, 3),
    "a view": _BASE[4:20:2],
    "transposed": _BASE.view(4, 6).T,
    "expanded": torch.arange(3.0).expand(4, 3),
    "a parameter": nn.Parameter(torch.ones(2)),
    "a parameter without gradient": nn.Parameter(torch.ones(2), requires_grad=False),
    "with a gradient": torch.ones(2, requires_grad=True),
    "channels last": torch.rand(1, 3, 2, 2).to(memory_format=torch.channels_last),
}
VALUES: dict[str, Any] = {
    "numbers": [0, -1, 255, 65536, 2**31, -(2**40), 2**80, 1.5, float("inf"), 2 + 3j],
    "texts": ["", "a", "\udce9", "\N{GREEK SMALL LETTER ALPHA}\n", "x" * 1000],
    "bytes": [b"", b"\0\xff", bytearray(b"abc")],
    "containers": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {}, {1}, set()),
    "dicts": [OrderedDict(a=1), Counter(a=2), {0: 1, (1, "a"): None, None: True}],
    "torch": [torch.Size([2, 3]), torch.device("cuda", 1), torch.device("cpu"), torch.bfloat16],
    "numpy": [
        *(np.float64(1.5), np.float32(2), np.int64(3), np.bool_(True)),
        *(np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3))), np.zeros(0, np.uint8)),
        np.random.RandomState(0).get_state(),
    ],
    "generators": random.Random(0).getstate(),
}


def both(content: Any, tmp_path: Path, **options: Any) -> tuple[Any, Any]:
    """What this package reads of a file, and what torch reads of it."""
    path = tmp_path / "a.pth"
    torch.save(content, path, **options)
    return read_checkpoint(path), torch.load(path, weights_only=False)


# torch itself does not read its newer types in the old format.
@pytest.mark.parametrize(
    ("name", "is_zip"),
    [(name, True) for name in TENSORS]
    + [(name, False) for name in TENSORS if not name.startswith(("torch.uint", "torch.float8"))]
    + [("torch.uint8", False)],
)
def test_tensors_are_those_of_torch(name: str, is_zip: bool, tmp_path: Path):
    content = dict(a=TENSORS[name], again=TENSORS[name], base=_BASE)
    ours, theirs = both(content, tmp_path, _use_new_zipfile_serialization=is_zip)
    assert equal(ours, theirs)
    assert ours["a"].requires_grad == theirs["a"].requires_grad
    assert ours["a"].stride() == theirs["a"].stride()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", VALUES)
def test_values_are_those_of_torch(name: str, protocol: int, tmp_path: Path):
    if name == "numpy" and protocol == 5:
        return  # numpy then writes calls of another kind, and so does nobody
    ours, theirs = both(dict(a=VALUES[name]), tmp_path, pickle_protocol=protocol)
    assert equal(ours, theirs)


def test_tensors_that_share_their_numbers_share_them_afterwards(tmp_path: Path):
    weight = torch.rand(3, 3)
    ours, _ = both(dict(embed=weight, head=weight, row=weight[1]), tmp_path)
    ours["embed"][1, 1] = 7
    assert ours["head"][1, 1] == 7 and ours["row"][1] == 7


def test_versions_of_modules_are_kept(tmp_path: Path):
    ours, theirs = both(nn.BatchNorm1d(2).state_dict(), tmp_path)
    assert ours._metadata == theirs._metadata == {"": dict(version=2)}


def test_a_training_goes_on_from_what_was_read(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    step()
    saved, _ = both(dict(m=model.state_dict(), o=optimizer.state_dict()), tmp_path)
    step()
    expected = model.weight.detach().clone()
    model.load_state_dict(saved["m"])
    optimizer.load_state_dict(saved["o"])
    step()
    assert torch.equal(model.weight, expected)


def test_a_log_keeps_its_numbers_and_takes_no_methods_from_a_file(tmp_path: Path):
    log = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 1])
    before = dict(HistoryBuffer._statistics_methods)
    path = tmp_path / "a.pth"
    try:
        HistoryBuffer._statistics_methods["mean"] = HistoryBuffer.max
        torch.save(dict(log=log), path)
    finally:
        HistoryBuffer._statistics_methods.update(before)
    read = read_checkpoint(path)["log"]
    assert read.statistics("mean") == 3.0 and len(read.data[0]) == 3
    read.update(4.0)
    assert HistoryBuffer._statistics_methods == before


def test_the_command_line_of_a_training_is_read(tmp_path: Path):
    args = Namespace(a=1, inner=Namespace(b=[2]))
    ours, _ = both(dict(args=args), tmp_path)
    assert ours["args"] == args


@pytest.mark.parametrize("is_zip", [True, False])
def test_meta_is_read_without_the_numbers(tmp_path: Path, is_zip: bool):
    path = tmp_path / "a.pth"
    content = dict(meta=dict(epoch=3), state_dict=dict(a=torch.rand(9)))
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert read_meta(path) == dict(epoch=3)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("read", [read_checkpoint, read_meta])
def test_a_file_is_not_held_beside_its_tensors(read: Any, is_zip: bool, tmp_path: Path):
    path = tmp_path / "a.pth"
    content = dict(meta=dict(epoch=3), state_dict=dict(a=torch.rand(2**20)))
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    tracemalloc.start()  # of Python's memory, which tensors are not in
    try:
        read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def _nested(levels: int) -> list:
    return [_nested(levels - 1)] if levels else []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({i / 7: i for i in range(10_001)}, "has more than 10,000 keys that are neither text nor"),
        (_nested(70), "holds values that are nested too deeply, more than 60 levels"),
        (np.ones(3, ">f4"), "holds an array in the byte order of another machine"),
        (
            torch.ones(1, dtype=torch.complex64).conj(),
            "holds tensors that are yet to be conjugated",
        ),
        (
            torch.zeros(1).expand(2**25),
            "its tensors share their numbers: save clones of them, or safetensors",
        ),
    ],
    ids=["keys", "depth", "byte order", "conjugated", "shared"],
)
def test_a_sound_file_that_is_refused_is_not_called_damaged(value: Any, text: str, tmp_path: Path):
    torch.save(dict(a=value), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=text) as error:
        read_checkpoint(tmp_path / "a.pth")
    assert "copy or download it again" not in str(error.value)


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.eye(3).to_sparse(), "sparse tensors"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantised tensors"),
        (torch.empty(2, device="meta"), "tensors without content"),
    ],
    ids=["sparse", "quantised", "meta"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_tensors_are_refused_by_name(
    tensor: torch.Tensor, what: str, tmp_path: Path
):
    torch.save(dict(a=tensor), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"a\.pth' holds {what}, which no plain ViT has"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_file_of_the_other_byte_order_is_refused(tmp_path: Path):
    file = io.BytesIO()
    torch.save(dict(a=torch.ones(2)), file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(tmp_path / "a.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"big" if name.endswith("byteorder") else source.read(name))
    with pytest.raises(ValueError, match="byte order of another machine"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a\x1b]0;x\x07", "a\nb", "\x9b2J"])
def test_a_name_that_would_steer_the_terminal_is_refused(name: str, tmp_path: Path):
    torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="characters that steer a terminal") as error:
        read_checkpoint(tmp_path / "a.pth")
    assert str(error.value).isprintable()
