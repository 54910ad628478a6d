"""Read untrusted weight files without running code that may be hidden in them."""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from milan_mm.early import missing_weights
from milan_mm.errors import MissingFileError, UserError
from milan_mm.files import sha256_of
from milan_mm.weights.archive import Archive, DamagedError, is_archive
from milan_mm.weights.arrays import read_arrays, read_safetensors, safetensors_metadata
from milan_mm.weights.budget import Budget, RefusedError
from milan_mm.weights.folders import folder_files
from milan_mm.weights.names import ASSETS, SUMS
from milan_mm.weights.plain import check_names
from milan_mm.weights.torch_files import read_torch
from milan_mm.weights.torchscript import holds_modules, read_torchscript


def read_checkpoint(path: str | Path, trust_pickle: bool = False) -> dict:
    """Read a weights file or a training checkpoint on the CPU.

    Torch files are read by a reader of our own, which builds tensors, plain values and the written
    list of what training checkpoints of mmengine and of the MAE family hold (`Constructors`); there
    is no fallback to full unpickling. Of TorchScript archives the tensors are read and the code is
    not. Checksums are compared wherever a format has them: the CRC-32 of zip archives, which are
    torch's files and .npz, the sha256 that this package writes into its own safetensors files, and
    that of the files in this package.
    What a file may ask for follows from its size (`Budget`).

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
    if path.resolve().parent == ASSETS and file_sha256(path) not in (ASSETS / SUMS).read_text():
        raise UserError(_altered(path, "bytes"))
    try:
        if path.suffix == ".safetensors":
            checkpoint, metadata = read_safetensors(path)
        elif path.suffix == ".npz":
            checkpoint, metadata = read_arrays(path), {}
        else:
            checkpoint, metadata = _read_torch(path, trust_pickle), {}
        check_names([*checkpoint, *metadata] if isinstance(checkpoint, dict) else ())
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
        return safetensors_metadata(path)
    except Exception as error:
        raise UserError(f"weights file '{path}' {_reason(error)}") from None


def read_meta(path: str | Path) -> dict[str, Any]:
    """`meta` of a training checkpoint, without reading its tensors from the disk.

    Returns:
        An empty dict for files that are damaged or of another kind.
    """
    try:
        content = read_torch(Path(path), with_numbers=False)
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
    return sha256_of(weights_file(path))


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


def _read_torch(path: Path, trust_pickle: bool) -> Any:
    if not trust_pickle:
        return read_torch(path)
    if is_archive(path):
        with Archive(path, Budget(path.stat().st_size)) as archive:
            if holds_modules(archive):
                return read_torchscript(archive)
            archive.check()
    return torch.load(path, map_location="cpu", weights_only=False)


def _altered(path: Path, part: str) -> str:
    return (
        f"weights file '{path}' is damaged: its {part} do not have the sha256 that was written "
        "with them; copy or download it again"
    )


def _reason(error: Exception) -> str:
    """What is wrong with a file, in one line."""
    text = str(error)
    if isinstance(error, RefusedError):
        return text
    if isinstance(error, DamagedError):
        return f"is damaged: {text}; copy or download it again"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return "does not fit into the memory of this machine"
    if unsafe := re.search(r"GLOBAL (.+) is not allowed", text):
        return (
            f"holds Python objects that would have to be executed: {unsafe[1]}; convert it to "
            "safetensors where you trust it"
        )
    if isinstance(error, UnpicklingError) or not text.strip():
        why = f" ({text[:80]})" if text.strip() else ""
        return f"is damaged or not a weights file: copy or download it again{why}"
    return f"is damaged or of an unknown format: {text.strip().splitlines()[0][:200]}"
