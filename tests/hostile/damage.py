"""Damage to weights files, bit by bit, and what a reader makes of it."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor, nn

from milan_mm.errors import UserError
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.reading import read_checkpoint
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state, tiny_vit


@dataclass
class Count:
    """What became of damaged files.

    Attributes:
        refused: With an error of one line that names the file.
        harmless: Read, with the content of the undamaged one.
        faults: Anything else: a text each.
    """

    refused: int = 0
    harmless: int = 0
    faults: tuple[str, ...] = ()


def training_checkpoint(folder: Path) -> Path:
    """A checkpoint as mmengine saves it: model, optimizer, schedulers, logs, meta."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.BatchNorm1d(48))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 24)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    hub = MessageHub.get_instance(f"damage in {folder.name}")
    for i in range(5):
        hub.update_scalar("train/loss", 1 / (i + 1))
    content = dict(
        meta=dict(epoch=1, iter=5, cfg="model = dict(type='x')\n", seed=0, dataset_meta={}),
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[schedule.state_dict()],
        message_hub=hub.state_dict(),
    )
    path = folder / "epoch_1.pth"
    torch.save(content, path)
    return path


def encoder(folder: Path) -> Path:
    """An encoder file of this package."""
    path = folder / "encoder.safetensors"
    small = dict(embed_dims=8, num_layers=1, num_heads=2)
    vit = tiny_vit(arch=small, img_size=8, patch_size=4)
    export_encoder(save_state(vit.state_dict(), folder, "vit.pth"), path)
    return path


def _read_encoder(path: Path) -> Any:
    found = read_encoder(path)
    return dict(found.state_dict), found.settings, found.system, found.stats, found.pooling


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "training checkpoint": (training_checkpoint, read_checkpoint),
    "encoder": (encoder, _read_encoder),
}


def flips(content: bytes, number: int, seed: int = 0) -> Iterator[bytes]:
    """Copies with one flipped bit, anywhere: half of them in the first and last 2,000 bytes."""
    generator = random.Random(seed)
    ends = [*range(min(2000, len(content))), *range(max(0, len(content) - 2000), len(content))]
    for i in range(number):
        place = generator.choice(ends) if i % 2 else generator.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << generator.randrange(8)
        yield bytes(changed)


def truncations(content: bytes, number: int, seed: int = 0) -> Iterator[bytes]:
    """Copies that end early, some by a few bytes only."""
    generator = random.Random(seed)
    for i in range(number):
        size = len(content) - 1 - i if i < number // 4 else generator.randrange(len(content))
        yield content[:size]


def count(kind: str, damaged: Iterator[bytes], path: Path) -> Count:
    """Write each damaged content in the place of a file, and read it.

    Args:
        kind: Of `FILES`. path: The undamaged file.
    """
    read = FILES[kind][1]
    expected, found = read(path), Count()
    for content in damaged:
        path.write_bytes(content)
        try:
            value = read(path)
        except UserError as error:
            named = path.name in str(error) and "\n" not in str(error)
            found.refused += named
            found.faults += () if named else (f"an error that does not name the file: {error}",)
        except Exception as error:
            found.faults += (f"{type(error).__name__}: {error}",)
        else:
            same = equal(value, expected)
            found.harmless += same
            found.faults += () if same else ("other content was read",)
    return found


def equal(a: Any, b: Any) -> bool:
    """Whether two contents are the same, to the bit and the type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, HistoryBuffer):
        return equal(list(a.data), list(b.data))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
