"""Small files that ask for much: memory, time or depth, in each format that is read.

As a script it reads all of them under a limit of the system, and prints what became of each.
"""

import io
import pickle
import resource
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from milan_mm.errors import UserError
from milan_mm.weights.reading import read_checkpoint
from tests.hostile.kinds import Call, archive, checkpoint, torch_file

ROOM = 700 * 2**20  # bytes of address space that all of these files may take together
_START, _MANY = b"\x80\x02", 3_000_000
_STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu%sNtQ."


def sharing() -> bytes:
    """Ten times the same list in a list, sixty levels deep: 10**60 values in 800 bytes."""
    level = b"]q%c(" + b"h%c" * 10 + b"e"
    levels = [level % (i + 1, *[i] * 10) for i in range(50)]
    return _START + b"]q\0" + b"".join(levels) + b"."


def expanded() -> bytes:
    """One number, seen as 10**10."""
    return torch_file(dict(a=torch.zeros(1).expand(10**5, 10**5)))


def overlapping() -> bytes:
    """A list with ten thousand records, all of which are the same 100 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("archive/data.pkl", _START + b"}.")
        target.writestr("archive/version", "3\n")
        target.writestr("archive/data/0", bytes(100_000))
        first = target.filelist[-1]
        for i in range(10_000):
            again = zipfile.ZipInfo(f"archive/data/{i + 1}")
            for name in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(again, name, getattr(first, name))
            target.filelist.append(again)
    return file.getvalue()


def deflated() -> bytes:
    """100 MB of zeros in 100 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", _START + b"}." + bytes(100 * 10**6))
        target.writestr("archive/version", "3\n")
    return file.getvalue()


def long_list() -> bytes:
    """A zip archive of nothing but a list of 10 MB."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 9, 1, *[0] * 6) + b"a"
    entries = entry * (10 * 10**6 // len(entry))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(entries), 4, 0)
    return b"PK\3\4" + entries + end


def old_format(count: int) -> bytes:
    """A file in torch's old format whose one storage is longer than the file."""
    head = [0x1950A86A20F9469CFC6C, 1001, dict(protocol_version=1001, little_endian=True)]
    number = pickle.dumps(count, 2)[2:-1]
    storage = _STORAGE % number
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage[:-1]
    tensor += b"K\0(" + number + b"t(K\1t\x89}tR"
    body = _START + b"}X\1\0\0\0a" + tensor + b"s."
    return b"".join(pickle.dumps(part, 2) for part in head) + body + pickle.dumps(["0"], 2)


def npz() -> bytes:
    """Arrays as NumPy saves them, compressed."""
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(100 * 10**6, np.uint8))
    return file.getvalue()


def npy_claims() -> bytes:
    """An array whose header says that it is of 10**12 numbers."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(64)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("a.npy", content)
    return file.getvalue()


def safetensors_list() -> bytes:
    """A list of 200,000 tensors without numbers."""
    entries = ",".join(
        f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(200_000)
    )
    header = f"{{{entries}}}".encode()
    return struct.pack("<Q", len(header)) + header


def colliding() -> bytes:
    """Numbers as keys, all of the same hash: the time to fill a dict grows with their square."""
    keys = (b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(100_000))
    return _START + b"}(" + b"".join(keys) + b"u."


# name -> suffix of the file, and its content
GREEDY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lists": (".pth", lambda: archive(_START + b"(" + b"]" * _MANY + b"t.")),
    "sets": (".pth", lambda: archive(_START + b"(" + b"\x8f" * _MANY + b"t.")),
    "memos": (".pth", lambda: archive(_START + b"}" + b"\x94" * _MANY + b".")),
    "depth": (".pth", lambda: archive(_START + b"}X\1\0\0\0a)" + b"\x85" * _MANY + b"s.")),
    "depth of a key": (".pth", lambda: archive(_START + b"})" + b"\x85" * 200_000 + b"Ns.")),
    "depth of lists": (".pth", lambda: archive(_START + b"]" * 50_000 + b"a" * 49_999 + b".")),
    "a list in itself": (".pth", lambda: archive(_START + b"}X\1\0\0\0a]q\0h\0as.")),
    "shared lists": (".pth", lambda: archive(sharing())),
    "colliding keys": (".pth", lambda: archive(colliding())),
    "a length": (".pth", lambda: torch_file(checkpoint(a=Call(bytearray, 10**12)))),
    "a shape": (".pth", lambda: torch_file(checkpoint(a=Call(np.ndarray, (10**12,))))),
    "a storage": (".pth", lambda: torch_file(checkpoint(a=Call(torch.UntypedStorage, 10**12)))),
    "a tensor": (".pth", lambda: torch_file(checkpoint(a=Call(torch.Tensor, 10**12)))),
    "an expanded tensor": (".pth", expanded),
    "overlapping records": (".pth", overlapping),
    "compressed records": (".pth", deflated),
    "a list of records": (".pth", long_list),
    "old format": (".pth", lambda: old_format(2**30)),
    "old format, longer": (".pth", lambda: old_format(2**40)),
    "compressed arrays": (".npz", npz),
    "a header of an array": (".npz", npy_claims),
    "a list of tensors": (".safetensors", safetensors_list),
}


def main() -> None:
    """Read all of them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, (suffix, content) in enumerate(GREEDY.values()):
            paths.append(Path(folder, f"{i}{suffix}"))
            paths[-1].write_bytes(content())
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
        refused = 0
        for name, path in zip(GREEDY, paths, strict=True):
            try:
                read_checkpoint(path)
            except UserError as error:
                refused += 1
                print(f"{name}: refused: {str(error).partition(path.name)[2][2:]}")
            except BaseException as error:
                print(f"{name}: {type(error).__name__}: {error}")
            else:
                print(f"{name}: taken")
            sys.stdout.flush()
        print(f"{refused} of {len(GREEDY)} refused, within {ROOM >> 20} MiB")


if __name__ == "__main__":
    main()
