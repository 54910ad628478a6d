"""Read untrusted weight files without running code that may be hidden in them."""

import hashlib
import json
import re
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray
from safetensors import safe_open
from torch import Tensor

from milan_mm.early import missing_weights
from milan_mm.errors import MissingFileError, UserError
from milan_mm.weights.checksums import check_records
from milan_mm.weights.folders import folder_files
from milan_mm.weights.torchscript import is_torchscript, read_torchscript

_HISTORY_METHODS = ("min", "max", "current", "mean")


def read_checkpoint(path: str | Path, trust_pickle: bool = False) -> dict:
    """Read a weights file or a training checkpoint on the CPU.

    Torch files are read with `weights_only=True` and a written list of the harmless classes that
    training checkpoints of mmengine and of the MAE family hold; there is no fallback to full
    unpickling. Of TorchScript archives the tensors are read and the code is not. Checksums are
    compared wherever a format has them: torch's CRC-32 (`check_records`), that of the zip archive
    in a .npz, and the sha256 that this package writes into its own safetensors files.

    Args:
        path: A safetensors file, Flax arrays (.npz), a torch file (.pth, .pt, .bin ...) or a
            folder of Hugging Face or timm with one weights file.
        trust_pickle: Unpickle a torch file fully, which runs whatever code it holds. For files of
            your own only.

    Returns:
        The file's top-level dict: tensors by name, or e.g. `state_dict`, `meta`, `optimizer`.

    Raises:
        MissingFileError: When the file does not exist.
        UserError: When the file is damaged, holds no dict, or would have to run code to be read.
    """
    path = weights_file(path)
    if path.suffix not in (".safetensors", ".npz"):
        check_records(path)
    try:
        if path.suffix == ".safetensors":
            checkpoint, metadata = _read_safetensors(path)
        elif path.suffix == ".npz":
            checkpoint, metadata = _read_arrays(path), {}
        else:
            checkpoint, metadata = _read_torch(path, trust_pickle), {}
    except Exception as error:  # a damaged file can lead the decoders to any kind of error
        reason = _reason(error)
        if path.suffix == ".pkl" and not zipfile.is_zipfile(path):
            reason = (
                "is a pickle, as detectron2 stores networks (ResNets, whole detectors): not a "
                "plain ViT, and not readable without running code; if there is one in it, save its "
                "tensors by torch.save"
            )
        raise UserError(f"weights file '{path}' {reason}") from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"weights file '{path}' holds a {type(checkpoint).__name__}, not a dict")
    if "sha256" in metadata and metadata["sha256"] != tensors_sha256(checkpoint):
        raise UserError(_altered(path, "tensors"))
    expected = metadata_sha256(metadata)
    if metadata.get("metadata_sha256", expected) != expected:
        raise UserError(_altered(path, "metadata"))
    return checkpoint


def weights_file(path: str | Path) -> Path:
    """The weights file itself, also where its folder is given.

    Raises:
        MissingFileError: When there is none.
        UserError: When a folder holds the weights in several parts.
    """
    path = Path(path)
    if path.is_dir():
        names = folder_files(path)
        for name in names:
            if (path / name).is_file():
                return path / name
        if index := sorted(path.glob("*.index.json")):
            raise UserError(
                f"folder '{path}' holds its weights in parts ('{index[0].name}'): save them as one "
                "model.safetensors"
            )
        raise MissingFileError(
            f"folder '{path}' holds no weights file: looked for {', '.join(names)}"
        )
    if not path.is_file():
        raise missing_weights(path)
    return path


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other files.

    Raises:
        MissingFileError, UserError: See `read_checkpoint`.
    """
    path = weights_file(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:
        raise UserError(f"weights file '{path}' {_reason(error)}") from None


def read_meta(path: str | Path) -> dict[str, Any]:
    """`meta` of a training checkpoint, without reading its tensors from the disk.

    Returns:
        An empty dict for files that are damaged or of another kind.
    """
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can lead the decoder to any kind of error
        return {}
    meta = content.get("meta") if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}


def file_sha256(path: str | Path) -> str:
    """Checksum of a weights file's bytes, in 64 hexadecimal digits.

    Args:
        path: The file, or its folder.

    Raises:
        MissingFileError, UserError: See `weights_file`.
    """
    with weights_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """One checksum over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def metadata_sha256(metadata: dict[str, str]) -> str:
    """One checksum over names and values of metadata, except its own entry."""
    entries = sorted((n, value) for n, value in metadata.items() if n != "metadata_sha256")
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _read_arrays(path: Path) -> dict[str, Tensor]:
    """Numbers only: arrays of Python objects would be pickles."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}


def _read_torch(path: Path, trust_pickle: bool) -> Any:
    if is_torchscript(path):
        return read_torchscript(path)
    if trust_pickle:
        return torch.load(path, map_location="cpu", weights_only=False)
    with torch.serialization.safe_globals(_safe_globals()):
        return torch.load(path, map_location="cpu", weights_only=True)


def _safe_globals() -> list:
    """What training checkpoints hold besides tensors.

    mmengine pickles log buffers with numpy arrays inside them; the MAE family pickles its command
    line, which may name folders. numpy pickles arrays and scalars as calls of two private
    functions, under the module name of its version, so both have to be allowed by name.
    """
    cores = ("core", "_core")  # numpy 1 and 2
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u4", "u1", "?")]
    return [
        HistoryBuffer,
        (_history_method, "builtins.getattr"),
        *((multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in cores),
        *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in cores),
        np.ndarray,
        np.dtype,
        *dtypes,
        Namespace,  # `args` in the checkpoints of MAE, DINO, SLIP ...: names and values
        (PurePosixPath, "pathlib.PosixPath"),  # stands in: it has a name but touches no disk
        (_ConfigNode, "yacs.config.CfgNode"),  # `config` in SimMIM's checkpoints
    ]


class _ConfigNode:
    """Stands in for yacs's configs, which are dicts: one of torch's harmless kinds of dict."""

    def __new__(cls) -> OrderedDict:  # type: ignore[misc]
        return OrderedDict()


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for getattr: mmengine pickles `HistoryBuffer.mean` by it, and nothing else."""
    if owner is not HistoryBuffer or name not in _HISTORY_METHODS:
        raise UnpicklingError(f"GLOBAL getattr({owner}, {name}) is not allowed")
    return getattr(HistoryBuffer, name)


def _altered(path: Path, part: str) -> str:
    return (
        f"weights file '{path}' is damaged: its {part} do not have the sha256 that was written "
        "with them; copy or download it again"
    )


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line and without torch's advice to unpickle it fully."""
    text = str(error)
    if unsafe := re.search(r"GLOBAL (\S+)", text):
        return (
            f"holds Python objects that would have to be executed: {unsafe[1]}; convert it to "
            "safetensors where you trust it"
        )
    if isinstance(error, UnpicklingError) or not text.strip():
        return "is damaged or not a weights file: copy or download it again"
    return f"is damaged or of an unknown format: {text.strip().splitlines()[0][:200]}"
