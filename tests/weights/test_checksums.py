"""A flipped bit of a torch file is noticed before anything of the file is loaded."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from milan_mm.engine.checkpoints import load_from_local
from milan_mm.errors import UserError
from milan_mm.pretrain.teacher_timm import fetch_tower
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder

NUM_FLIPS = 300


@pytest.fixture
def training_file(tmp_path: Path) -> Path:
    """A checkpoint with an optimizer's state, as training writes it."""
    torch.manual_seed(0)
    model = nn.Linear(64, 256)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 64)).sum().backward()
    optimizer.step()
    path = tmp_path / "epoch_1.pth"
    states = dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict())
    torch.save(dict(meta=dict(epoch=1), **states), path)
    return path


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def plain(value: Any) -> Any:
    """Nested lists instead of tensors, for a comparison of whole files."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value.tolist() if isinstance(value, Tensor) else value


def test_every_flipped_bit_of_a_record_is_refused(training_file: Path):
    content = training_file.read_bytes()
    with zipfile.ZipFile(training_file) as archive:
        records = archive.infolist()
        starts = [content.index(archive.read(record), record.header_offset) for record in records]
    generator = random.Random(0)
    sizes = [record.file_size for record in records]
    for _ in range(NUM_FLIPS):
        record = generator.choices(range(len(records)), sizes)[0]
        bit = 8 * starts[record] + generator.randrange(8 * sizes[record])
        training_file.write_bytes(flipped(content, bit))
        with pytest.raises(UserError, match=r"is damaged: .* copy or download it again"):
            read_checkpoint(training_file)


def test_a_flipped_bit_between_the_records_is_refused_or_harmless(training_file: Path):
    content, expected = training_file.read_bytes(), plain(read_checkpoint(training_file))
    generator = random.Random(1)
    for _ in range(NUM_FLIPS):
        bit = generator.randrange(8 * len(content))
        training_file.write_bytes(flipped(content, bit))
        try:
            found = read_checkpoint(training_file)
        except UserError:
            continue
        assert plain(found) == expected


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(load_from_local, id="resume and load_from"),
        pytest.param(read_encoder, id="weights"),
        pytest.param(lambda path: fetch_tower("vit_tiny_patch16_224", path), id="teacher"),
        pytest.param(lambda path: read_checkpoint(path, trust_pickle=True), id="trusted"),
    ],
)
def test_every_reader_compares_the_checksums(training_file: Path, read: Callable[[str], Any]):
    content = training_file.read_bytes()
    number = torch.load(training_file)["state_dict"]["bias"].numpy().tobytes()
    training_file.write_bytes(flipped(content, 8 * content.index(number) + 3))
    torch.load(training_file)  # torch itself notices nothing
    with pytest.raises(UserError, match=r"record 'epoch_1/data/\d' does not have the CRC-32"):
        read(str(training_file))


@pytest.mark.parametrize("kind", ["old format", "written without"])
def test_a_file_without_checksums_is_read_and_the_log_says_so(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    path, lines = tmp_path / "a.pth", []
    monkeypatch.setattr(
        "milan_mm.weights.archive.print_log", lambda text, logger: lines.append(text)
    )
    torch.serialization.set_crc32_options(kind == "old format")
    try:
        tensors = dict(weight=torch.arange(5.0))
        torch.save(tensors, path, _use_new_zipfile_serialization=kind != "old format")
    finally:
        torch.serialization.set_crc32_options(True)
    assert plain(read_checkpoint(path)) == plain(tensors)
    assert len(lines) == 1 and "has no checksums" in lines[0]


def test_of_a_file_that_holds_no_weights_the_log_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines: list[str] = []
    monkeypatch.setattr(
        "milan_mm.weights.archive.print_log", lambda text, logger: lines.append(text)
    )
    (tmp_path / "README.md").write_text("# Not weights\n")
    with pytest.raises(UserError, match=r"README\.md' is damaged or not a weights file"):
        read_checkpoint(tmp_path / "README.md")
    assert not lines
