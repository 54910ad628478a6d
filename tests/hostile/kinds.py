"""Thirteen kinds of weights files that are made to harm.

Each writes a file that would make the folder `marker`, end the process or fill its memory, if it
were unpickled by a reader that calls what a file names.
"""

import io
import os
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


class State:
    """Pickles as an object of a class whose state is given: __reduce__ with three parts."""

    def __init__(self, build: Callable, arguments: tuple, state: object) -> None:
        self.parts = (build, arguments, state)

    def __reduce__(self) -> tuple:
        return self.parts


def checkpoint(**extra: Any) -> dict[str, Any]:
    """What a training saves, in small, with something of the attacker's in it."""
    meta = dict(epoch=1, iter=4, cfg="model = dict(type='x')", time="20260101_000000")
    return dict(meta=meta, state_dict=OrderedDict(a=torch.ones(2)), optimizer={}) | extra


def torch_file(content: Any, **options: Any) -> bytes:
    """The content of a file of torch.save."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive(description: bytes, root: str = "archive", **records: bytes) -> bytes:
    """A torch archive around a pickle, written by hand."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr(f"{root}/data.pkl", description)
        target.writestr(f"{root}/version", "3\n")
        for name, content in records.items():
            target.writestr(f"{root}/{name}", content)
    return file.getvalue()


def through_getattr(marker: Path) -> bytes:
    """Of protocol 2: getattr(getattr(torch, 'os'), 'mkdir')(marker), by names that are listed."""
    look_up = b"\x80\x02cbuiltins\ngetattr\n(ctorch\nserialization\nX\x02\x00\x00\x00ostR"
    path = str(marker).encode()
    again = b"cbuiltins\ngetattr\n(" + look_up[2:] + b"X\x05\x00\x00\x00mkdirtR"
    return b"\x80\x02" + again + b"(X" + len(path).to_bytes(4, "little") + path + b"tR."


def tar_file(marker: Path) -> bytes:
    """torch's format from before 0.2: a tar archive of pickles."""
    file = io.BytesIO()
    payload = pickle.dumps(Call(os.mkdir, str(marker)), 2)
    with tarfile.open(fileobj=file, mode="w") as target:
        for name in ("storages", "tensors", "pickle", "../sys_info"):
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            target.addfile(info, io.BytesIO(payload))
    return file.getvalue()


def pointer() -> bytes:
    """An array of Python objects at an address of the file's choice."""
    dtype = State(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 63))
    state = (1, (1,), dtype, False, [0x4141414141414141])
    array = State(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)
    return torch_file(checkpoint(extra=[array, Call(np.ndarray, (10**6,), "f8", b"x" * 8, 10**9)]))


def climbing(marker: Path) -> bytes:
    """Records whose names climb out of any folder."""
    payload = pickle.dumps(Call(os.mkdir, str(marker)), 2)
    records = {f"../../../../../..{marker}": b"x", "data/../../0": bytes(8)}
    return archive(payload, "../..", **records)


# name -> suffix of the file, and its content
KINDS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "open": (".pth", lambda m: torch_file(checkpoint(x=Call(open, str(m), "w")))),
    "system": (".pth", lambda m: torch_file(Call(os.system, f"mkdir {m}"))),
    "exec": (".bin", lambda m: torch_file([Call(exec, f"import os; os.mkdir({str(m)!r})")])),
    "import": (".pt", lambda m: torch_file(checkpoint(x=Call(__import__, "antigravity")))),
    "getattr chain": (".pth", lambda m: archive(through_getattr(m))),
    "in meta": (
        ".pth",
        lambda m: torch_file(checkpoint(meta=dict(epoch=Namespace(a=Call(os.mkdir, str(m)))))),
    ),
    "in the optimizer": (
        ".pth",
        lambda m: torch_file(checkpoint(optimizer=dict(state={0: Call(os.mkdir, str(m))}))),
    ),
    "old format": (
        ".pth",
        lambda m: torch_file(Call(os.mkdir, str(m)), _use_new_zipfile_serialization=False),
    ),
    "tar": (".pth", tar_file),
    "named safetensors": (".safetensors", lambda m: pickle.dumps(Call(os.mkdir, str(m)))),
    "pointer": (".pth", lambda m: pointer()),
    "memory": (".pth", lambda m: torch_file(checkpoint(x=Call(bytearray, 10**13)))),
    "climbing names": (".pth", climbing),
}


def write(kind: str, folder: Path, name: str = "hostile") -> tuple[Path, Path]:
    """Write a file of a kind; returns it, and the marker that must not appear."""
    suffix, content = KINDS[kind]
    marker = folder / "marker"
    path = folder / f"{name}{suffix}"
    path.write_bytes(content(marker))
    return path, marker
